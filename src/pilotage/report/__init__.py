"""A run or a comparison as one HTML file that opens without a network, and the pictures of papers and README."""
