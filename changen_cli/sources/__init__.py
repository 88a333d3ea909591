"""Reading: a folder of images becomes a stream of scenes. Nothing heavy is imported here."""
