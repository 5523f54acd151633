"""What the command ``submit`` does: a stranger's records and poisons against the rules; an entry of the leaderboard.

Nothing of the stranger's is executed unless the user trusts the plug-in file.
"""
