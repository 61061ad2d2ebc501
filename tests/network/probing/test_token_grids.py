"""Gray codes of the cells of a grid, and the order of tokens that contrasts tell."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featviz.network.probing.token_grids import Codes, Found, TokenOrder, agrees, contrasts, find_order

SIDES = st.sampled_from([2, 3, 4, 6, 7, 8, 14])


def gray(number, bits):
    """The reflected binary code by its recursion: that of one bit fewer, and then the same mirrored with a 1 before."""
    codes = [[]]
    for _ in range(bits):
        codes = [[0, *code] for code in codes] + [[1, *code] for code in reversed(codes)]
    return codes[number]


def bits_for(count):
    return math.ceil(math.log2(count)) if count > 1 else 0


def clean_contrast(codes, cells):
    """The contrasts of tokens that each show one cell of the grid of the codes, +1 or -1."""
    rows, columns = bits_for(codes.rows), bits_for(codes.columns)
    values = [gray(cell // codes.columns, rows) + gray(cell % codes.columns, columns) for cell in cells]
    return 2 * torch.tensor(values, dtype=torch.float32).T - 1


def noisy(contrast, seed, noise=0.3, scale=0.8):
    generator = torch.Generator().manual_seed(seed)
    return (scale * contrast + noise * torch.randn(contrast.shape, generator=generator)).clamp(-1, 1)


def with_others(contrast, before, after, seed=0):
    """Put tokens of small, random contrast before and after."""
    generator = torch.Generator().manual_seed(seed)
    first, last = (0.3 * (2 * torch.rand(len(contrast), n, generator=generator) - 1) for n in (before, after))
    return torch.cat([first, contrast, last], 1)


@given(SIDES, SIDES)
@settings(max_examples=30, deadline=None)
def test_bits_are_those_of_gray_codes(rows, columns):
    codes = Codes(rows, columns)
    assert codes.bits == (bits_for(rows), bits_for(columns))
    assert tuple(codes) == (rows, columns)
    size = (2 * rows, 3 * columns)
    first, second, *mixed = codes.images(size, 2)
    assert len(mixed) == sum(codes.bits)
    for bit, image in enumerate(mixed):
        for row in range(rows):
            for column in range(columns):
                in_row = bit < codes.bits[0]
                code = gray(row, codes.bits[0]) if in_row else gray(column, codes.bits[1])
                expected = second if code[bit - (0 if in_row else codes.bits[0])] else first
                y, x = 2 * row + 1, 3 * column + 1
                assert torch.equal(image[:, y, x], expected[:, y, x])


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_neighbours_differ_in_one_bit(count):
    codes = clean_contrast(Codes(1, count), range(count))
    assert ((codes[:, 1:] != codes[:, :-1]).sum(0) == 1).all()


def test_images_are_noise_in_the_range_of_images_and_always_the_same():
    images = Codes(4, 8).images((16, 16), 3)
    assert images.shape == (2 + 2 + 3, 3, 16, 16)
    assert 0 <= images.min() < 0.05
    assert 0.95 < images.max() <= 1
    assert torch.equal(images, Codes(4, 8).images((16, 16), 3))


def test_codes_cover_grids_of_half_as_many_rows_and_columns():
    codes = Codes(8, 12)
    covered = {(rows, columns) for rows in range(1, 9) for columns in range(1, 13) if codes.covers((rows, columns))}
    assert covered == {(rows, columns) for rows in (1, 2, 4, 8) for columns in (3, 6, 12)}


def test_contrasts():
    near, far = torch.tensor([[0.0, 1.0, 3.0, 0.0]]), torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert contrasts(near, far).tolist() == [[-1.0, 0.0, 0.5, 0.0]]  # the last one never changes


@given(SIDES, SIDES, st.integers(0, 4), st.data())
@settings(max_examples=50, deadline=None)
def test_fits_and_cells_restated(rows, columns, extra, data):
    codes = Codes(rows, columns)
    area = rows * columns
    cells = data.draw(st.permutations(range(area)))
    contrast = with_others(clean_contrast(codes, cells), extra, 0)
    assert codes.cells(contrast, (rows, columns))[extra:].tolist() == list(cells)
    fits = codes.fits(contrast, (rows, columns))
    assert fits.shape == (sum(codes.bits), extra + 1)
    by_rows = clean_contrast(codes, range(area))
    for bit in range(sum(codes.bits)):
        for prefix in range(extra + 1):
            pairs = [(contrast[bit, prefix + i].item(), by_rows[bit, i].item()) for i in range(area)]
            expected = sum(a * b for a, b in pairs) / sum(abs(a) for a, _ in pairs)
            assert fits[bit, prefix].item() == pytest.approx(expected, abs=1e-5)


@given(
    st.sampled_from([(2, 2), (4, 4), (7, 7), (8, 8), (4, 8), (3, 6), (14, 14)]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_the_order_by_rows_is_found_in_noise(grid, before, after, seed):
    codes = Codes(*grid)
    noise = 0.3 if math.prod(grid) >= 16 else 0.05
    contrast = noisy(clean_contrast(codes, range(math.prod(grid))), seed, noise)
    found = find_order(with_others(contrast, before, after, seed), codes, [grid, (grid[1], grid[0])])
    assert found == Found(TokenOrder(grid, before))


@given(st.sampled_from([(4, 4), (7, 7), (4, 8), (8, 8)]), st.integers(0, 2), st.integers(0, 2), st.data())
@settings(max_examples=50, deadline=None)
def test_any_other_order_is_found_without_noise(grid, before, after, data):
    area = math.prod(grid)
    cells = data.draw(st.permutations(range(area)))
    codes = Codes(*grid)
    found = find_order(with_others(clean_contrast(codes, cells), before, after), codes, [grid]).order
    assert (found.grid, found.prefix) == (grid, before)
    order = range(area) if found.order is None else found.order
    agreement = sum(cells[token] == cell for cell, token in enumerate(order)) / area
    assert agreement == 1 or (found.order is None and agreement > 0.5)  # almost by rows counts as by rows


@given(st.sampled_from([(4, 4), (8, 8), (2, 8)]), st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_coarser_grids_are_found_by_the_codes_of_a_finer_one(grid, seed):
    fine = Codes(2 * grid[0], 2 * grid[1])
    # A cell of the coarse grid shows both values of the finest bit: no contrast there.
    cells = [4 * grid[1] * (i // grid[1]) + 2 * (i % grid[1]) for i in range(math.prod(grid))]
    contrast = clean_contrast(fine, cells)
    contrast[[fine.bits[0] - 1, -1]] *= 0.05
    found = find_order(noisy(contrast, seed, 0.05), fine, [grid])
    assert found.order == TokenOrder(grid, 0)


@pytest.mark.parametrize("count", [4, 6, 9, 12, 16, 17, 49, 64])
def test_chance_finds_no_order(count):
    generator, wrong = torch.Generator().manual_seed(count), 0
    for i in range(200):
        codes = Codes(*[(2, 2), (4, 4), (8, 8)][i % 3])
        contrast = torch.rand(sum(codes.bits), count, generator=generator) * 1.6 - 0.8
        grids = [(side, side) for side in (2, 4, 8) if side**2 <= count]
        wrong += find_order(contrast, codes, grids).order is not None
    assert wrong <= 2


def test_contrasts_of_no_strength_have_no_order_and_contradict_none():
    codes = Codes(4, 4)
    for scale in (0.0, 0.1):
        contrast = scale * (torch.rand(4, 17, generator=torch.Generator().manual_seed(0)) - 0.5)
        assert find_order(contrast, codes, [(4, 4)]) == Found(None, contradicts=False)


def test_another_order_by_chance_of_strong_contrasts_contradicts():
    codes = Codes(4, 4)
    cells = [5] * 8 + [10] * 8  # strong contrasts, but not one token for each cell
    found = find_order(clean_contrast(codes, cells), codes, [(4, 4)])
    assert found.order is None
    assert found.contradicts


def test_contrasts_of_windows_do_not_contradict():
    """After attention over windows, tokens of a window have the same contrast: the fine bits tell nothing."""
    codes = Codes(4, 4)
    contrast = clean_contrast(codes, range(16))
    chance = torch.rand(2, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    contrast[[1, 3]] = 0.02 * chance  # rows and columns inside of a window of 2 x 2
    assert find_order(contrast, codes, [(4, 4)]) == Found(None, contradicts=False)


def test_grids_that_are_not_covered_or_too_large_are_left_out():
    codes = Codes(4, 4)
    contrast = clean_contrast(codes, range(16))
    assert find_order(contrast, codes, []).order is None
    assert find_order(contrast, codes, [(3, 5), (8, 8), (1, 1)]).order is None


@given(st.sampled_from([(4, 4), (8, 8)]), st.integers(0, 2), st.integers(0, 999), st.data())
@settings(max_examples=40, deadline=None)
def test_a_known_order_agrees_with_noisy_contrasts_and_another_one_does_not(grid, before, seed, data):
    area = math.prod(grid)
    cells = data.draw(st.permutations(range(area)))
    codes = Codes(*grid)
    contrast = with_others(noisy(clean_contrast(codes, cells), seed, 0.2), before, 1)
    order = tuple(cells.index(cell) for cell in range(area))
    assert agrees(contrast, codes, TokenOrder(grid, before, order))
    assert not agrees(-contrast, codes, TokenOrder(grid, before, order))
    assert not agrees(contrast, codes, TokenOrder((3, 5), before))
    by_rows = with_others(clean_contrast(codes, range(area)), before, 1)
    assert agrees(by_rows, codes, TokenOrder(grid, before))
