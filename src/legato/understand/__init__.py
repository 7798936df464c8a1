"""What is in a video: features over time, and facts about the file."""
