"""What of the standard is served, and how: small models of every operator, in every version and type."""
