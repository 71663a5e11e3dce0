"""Recipes: one file a method, each with get_config(arg); what they share is in common.py."""
