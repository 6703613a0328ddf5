"""How long a layer takes here: settings → measured rows → a record → a table; beside torch's own layers."""
