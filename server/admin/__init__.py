"""The operators' API: tenants, plans, keys and what they used. Only a key of scope `admin` opens it."""
