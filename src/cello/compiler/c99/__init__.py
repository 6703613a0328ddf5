"""One step of any cell as C99, for programs without any library."""
