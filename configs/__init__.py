"""Names and settings: what a person may write down, typed, and how a name becomes an object. Knows no torch."""
