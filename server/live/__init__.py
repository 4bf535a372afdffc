"""What happens now, for eyes: the figures behind the dashboard and `wattline top`. Numbers and ids, never text."""
