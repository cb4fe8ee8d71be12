"""Code that the programs share: flags, the run of a command, its report. Only programs import it."""
