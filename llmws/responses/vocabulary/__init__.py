"""The words of the API: what it says, what it takes and what it allows; values that know of no turn."""
