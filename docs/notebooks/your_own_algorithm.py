# %% [markdown]
# # your_own_algorithm
