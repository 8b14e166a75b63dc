"""Writes what the status test loads: a table, and clicks of which many belong to one user and some do not fit."""

import pathlib
import sys

# The page must not show it, hot as it is.
HOT_USER = "user-4711-hot"
TABLE = """name: ad_clicks
ddl: |
  user STRING NOT NULL,
  at BIGINT NOT NULL,
  campaign VARCHAR(12)
key: [user, at]
"""


def main(folder):
    (folder / "clicks.yaml").write_text(TABLE)
    with (folder / "clicks.csv").open("w") as file:
        file.write("user,at,campaign\n")
        for at in range(4000):
            user = HOT_USER if at % 3 == 0 else f"user-{at}"
            campaign = "much-too-long-a-campaign" if at % 50 == 0 else "summer"
            file.write(f"{user},{at},{campaign}\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
