"""Learning: networks trained on folders of images. Runs the same anywhere, resumes as if never interrupted."""
