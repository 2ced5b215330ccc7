"""Random changes of training images: parameters are drawn for each image, and applied to a batch at once."""
