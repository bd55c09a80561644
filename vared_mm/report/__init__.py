"""What is told of a trained model, beyond its accuracy and its cost."""
