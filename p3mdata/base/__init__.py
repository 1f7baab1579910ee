"""What every room needs and no room owns: files, tables, addresses, processes, the console."""
