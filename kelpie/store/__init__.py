"""The SQLite file: nobody else writes SQL."""
