"""Video models that know when each frame is."""
