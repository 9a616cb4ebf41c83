"""Drawing: no edges where there should be none, smooth ones where there should."""

from random import Random

from generation.cards.canvas import Canvas, Point, disc, rectangle, ring, sector

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def level(canvas: Canvas, point: Point) -> int:
    color = canvas.image.getpixel((int(point[0]), int(point[1])))
    assert isinstance(color, tuple)
    return int(color[0])


def test_a_gradient_runs_from_corner_to_corner() -> None:
    canvas = Canvas(200, 300, Random(1))

    canvas.gradient(BLACK, WHITE, degrees=30)

    assert level(canvas, (0, 0)) < 12
    assert 110 < level(canvas, (100, 150)) < 145
    assert level(canvas, (199, 299)) > 243


def test_a_gradient_between_near_colours_has_no_bands() -> None:
    canvas = Canvas(64, 512, Random(1))

    canvas.gradient((100, 100, 100), (108, 108, 108), degrees=0)

    rows_of_one_colour = [
        row for row in range(512) if len({level(canvas, (x, row)) for x in range(64)}) == 1
    ]
    assert len(rows_of_one_colour) < 400
    assert {level(canvas, (x, y)) for x in range(64) for y in range(512)} == set(range(100, 109))


def test_a_glow_fades_to_nothing_at_its_radius() -> None:
    canvas = Canvas(300, 300, Random(1))

    canvas.glow((150, 150), 100, WHITE)

    assert level(canvas, (150, 150)) > 240
    assert level(canvas, (150 + 60, 150)) < level(canvas, (150 + 30, 150))
    assert level(canvas, (150 + 98, 150)) < 12
    assert level(canvas, (150 + 102, 150)) == 0


def test_what_lies_outside_the_canvas_is_not_drawn() -> None:
    canvas = Canvas(50, 50, Random(1))

    canvas.glow((500, 500), 100, WHITE)
    canvas.shape(disc((-500, 20), 100), WHITE)

    assert canvas.image.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_the_edge_of_a_disc_is_smooth() -> None:
    canvas = Canvas(100, 100, Random(1))

    canvas.shape(disc((50, 50), 40), WHITE)

    levels = {level(canvas, (x, y)) for x in range(100) for y in range(100)}
    assert len(levels) > 8
    assert (level(canvas, (50, 50)), level(canvas, (5, 5))) == (255, 0)


def test_a_ring_is_open_in_the_middle() -> None:
    canvas = Canvas(100, 100, Random(1))

    canvas.shape(ring((50, 50), 40, 10), WHITE)

    assert [level(canvas, (x, 50)) for x in (50, 75, 85, 95)] == [0, 0, 255, 0]


def test_a_sector_turns_clockwise_from_the_right() -> None:
    canvas = Canvas(100, 100, Random(1))

    canvas.shape(sector((50, 50), 40, 0, 90), WHITE)

    corners = [(60, 60), (40, 60), (40, 40), (60, 40)]
    assert [level(canvas, corner) for corner in corners] == [255, 0, 0, 0]


def test_opacity_lets_the_ground_shine_through() -> None:
    canvas = Canvas(20, 20, Random(1))

    canvas.shape(rectangle(0, 0, 20, 20), WHITE, opacity=0.5)

    assert level(canvas, (10, 10)) == 128


def test_a_mirrored_canvas_exchanges_left_and_right() -> None:
    canvas = Canvas(100, 20, Random(1), mirrored=True)

    canvas.shape(rectangle(0, 0, 30, 20), WHITE)

    assert [level(canvas, (x, 10)) for x in (10, 60, 90)] == [0, 0, 255]
