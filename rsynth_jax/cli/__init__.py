"""What the programs share: flags, progress, sheets, reports."""
