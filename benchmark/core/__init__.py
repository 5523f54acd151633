"""The ground floor: what every room stands on and what knows nothing of data, models or records."""
