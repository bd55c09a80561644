"""What detections of actions are worth, in numpy: boxes and average precision, tubes."""
