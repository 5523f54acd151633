"""The paper's tables and the suite's own, as pure functions of records.

Nothing here is imported beyond the names, so that the command line can list them without loading pandas and torch.
"""

from collections.abc import Mapping

TABLES: Mapping[str, str] = {
    "matrix": "each attack that met a defense, under each defense: recall kept, worst cases marked, rankings",
    "2": "one attack against every defense, with what the defense costs on clean data (Table 2 of the paper)",
    "attacks": "every attack without a defense: recall lost, beside random noise and random words",
    "1": "trigger length: what k words in front of every caption do (Table 1 of the paper)",
    "transfer": "poisons of one surrogate against victims of other architectures",
    "cost": "seconds, speed and memory of each attack and defense",
}
"""Names on the command line, in the report's order, each with one line of what the table shows."""

IN_THE_PAPER = ("1", "2")
"""Those that can stand beside the paper's."""

LEADERBOARD = "leaderboard"
OF_ENTRIES: Mapping[str, str] = {
    LEADERBOARD: "accepted submissions, ranked by their worst cases; read from their entries, not from records",
}
"""The table that is made of entries of the leaderboard instead of records."""

FORMATS = ("markdown", "latex", "html", "csv", "json")
