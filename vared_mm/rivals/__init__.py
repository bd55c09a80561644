"""What VA-RED² is compared with: other ways to save, as the paper's Tables 4 and 7 have them."""
