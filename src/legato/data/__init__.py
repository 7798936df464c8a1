"""Synthetic worlds with exact truth, and folders of clips."""
