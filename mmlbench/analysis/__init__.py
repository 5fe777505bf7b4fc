"""From scored runs to the rows of the tables; numpy only, and nothing here knows how a row looks."""
