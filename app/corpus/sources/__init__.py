"""Where code comes from (packages, folders, tables, task files) and under which licence."""
