"""A trained model on images and videos: what it answers, and what each answer cost."""
