"""Other people's layouts: datasets made by changen written, and checked, as their readers expect them."""
