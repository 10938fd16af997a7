"""Files of people's rows as records: forms, fields, and what is wrong with a row."""
