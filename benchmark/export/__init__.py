"""Protected data as files that others can train on, and the check that such files are what they say."""
