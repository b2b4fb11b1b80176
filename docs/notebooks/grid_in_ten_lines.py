# %% [markdown]
# # grid_in_ten_lines
