"""The backend's queries as tools of the Model Context Protocol, for agents and editors."""
