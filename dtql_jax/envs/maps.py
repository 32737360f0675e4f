"""D4RL's maps of its AntMazes, with the start and goal of the evaluation."""

# rows of cells: 1 a wall, 0 free, r the start, g the goal
MAPS = {
    "umaze": ("11111", "1r001", "11101", "1g001", "11111"),
    "medium": (
        "11111111",
        "1r011001",
        "10010001",
        "11000111",
        "10010001",
        "10100101",
        "100010g1",
        "11111111",
    ),
    "large": (
        "111111111111",
        "1r0001000001",
        "101101010101",
        "100000010001",
        "101111011101",
        "100101000001",
        "110101010111",
        "100100010g01",
        "111111111111",
    ),
}


def cells(rows: tuple[str, ...]) -> list[list[int | str]]:
    """Returns rows in the form of Gymnasium-Robotics' maze_map: 1 and 0 as numbers."""
    return [[int(cell) if cell in "01" else cell for cell in row] for row in rows]
