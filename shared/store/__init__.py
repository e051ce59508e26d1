"""All SQL that runs, by table family."""
