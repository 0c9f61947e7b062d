"""The pages that people look at: a client of the API that lives in the server, and knows no module from inside."""
