"""Synthesise music in the ten genres and ten moods: `render` returns one clip, `draw_artist` a band's sound.

==========  =====================================================================================
what        how it is carried
==========  =====================================================================================
genre       `GENRES`: tempo, swing, drum patterns, progressions, instruments and their registers, and
            the colour of its recordings (an equaliser with one resonance that no other class has)
artist      `Artist`: equaliser, reverb, tuning of the drums, timbre and balance of the parts,
            preferred tempo and key; small next to the differences between genres
mood        `MOOD_STYLES`: scale, tempo factor, register and dynamics of the band (one pole), parts of
            its own played over every band alike (the other pole), and a colour
clip        key, progression, melodies
==========  =====================================================================================

In this order: the instruments (`VOICES`, `KIT`), the musical tables (`GENRES`, `MOOD_STYLES`), what is played
(`Chord`, `CONTOURS`, `Artist`, `Score`), how it sounds (filters, notes, parts, drums, reverberation,
equaliser), and `render`.

The same random streams give the same samples, to the bit: the sound is made of table look-ups, additions,
products and low-order filters in float64 only. Curves that come from ``sin`` or ``exp`` are rounded to 2^-24
first, since processors disagree in their last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Final

import numpy as np
from scipy.signal import lfilter

SAMPLE_RATE: Final = 22_050  # Hz, as GTZAN
STEPS_PER_BAR: Final = 16
TABLE_BITS: Final = 11  # one cycle of a waveform in 2048 samples
NYQUIST_MARGIN: Final = 0.45  # harmonics above this share of the sample rate are left out
RELEASE_SECONDS: Final = 0.03
HISS: Final = 0.12  # of a tape; without it the logarithm of silence outweighs every note
HISS_HZ: Final = 2500.0
LOUDNESS: Final = 0.12  # root mean square, of full scale
PEAK: Final = 0.89  # of full scale


@dataclass(frozen=True)
class Voice:
    """An instrument: one-cycle waveforms, a bright one that dies away into a darker one, and an envelope.

    Parameters
    ----------
    rolloff
        Harmonic ``k`` has amplitude ``k ** -rolloff``; the dark waveform falls by `DARKER` more.
    even
        Amplitude of the even harmonics, 0 (hollow) to 1.
    attack, decay, bright
        Seconds: rise, fall to `sustain`, life of the bright waveform.
    sustain
        Level that the decay ends at, 0–1.
    detune
        Cents; a second voice is tuned this much higher, 0 for none.
    vibrato
        Depth in cents, at `VIBRATO_HZ`.
    drive
        Gain before a soft clipper over the whole part, 0 for none.
    formants
        Resonances of the body as (Hz, width in Hz, gain).
    """

    rolloff: float
    even: float = 1.0
    attack: float = 0.005
    decay: float = 0.5
    sustain: float = 0.0
    bright: float = 0.1
    detune: float = 0.0
    vibrato: float = 0.0
    drive: float = 0.0
    formants: tuple[tuple[float, float, float], ...] = ()


DARKER: Final = 1.2
VIBRATO_HZ: Final = 5.5

VOICES: Final = {
    "acoustic guitar": Voice(1.1, decay=0.4, bright=0.06, detune=4,
        formants=((220, 120, 1.5), (2500, 900, 2.0))),
    "banjo": Voice(0.7, decay=0.14, bright=0.05, formants=((1300, 600, 3.0),)),
    "bell": Voice(2.2, even=0.4, decay=0.7, bright=0.2),
    "brass": Voice(0.9, attack=0.04, decay=0.3, sustain=0.8, bright=0.5, formants=((1300, 500, 3.0),)),
    "choir": Voice(1.2, attack=0.2, sustain=1.0, detune=14, vibrato=12,
        formants=((620, 130, 5.0), (1100, 160, 4.0))),
    "distorted guitar": Voice(0.6, decay=1.0, sustain=0.7, bright=0.6, detune=8, drive=24.0),
    "driven guitar": Voice(0.9, decay=0.9, sustain=0.4, bright=0.3, detune=5, drive=5.0),
    "electric bass": Voice(1.5, decay=0.6, sustain=0.2, bright=0.08),
    "electric guitar": Voice(1.3, decay=0.5, bright=0.1, formants=((700, 300, 1.5),)),
    "electric piano": Voice(2.0, decay=0.8, bright=0.06, vibrato=3, formants=((2600, 500, 6.0),)),
    "glass": Voice(4.0, attack=0.05, decay=1.5, bright=0.3),
    "organ": Voice(1.1, even=0.8, attack=0.008, sustain=1.0, bright=0.02, vibrato=9,
        formants=((500, 300, 1.5),)),
    "piano": Voice(1.5, decay=0.7, bright=0.12, detune=2),
    "reed": Voice(0.9, even=0.35, attack=0.03, sustain=0.8, bright=0.6, vibrato=14,
        formants=((900, 350, 3.0),)),
    "saw pad": Voice(1.0, attack=0.08, sustain=1.0, bright=1.5, detune=18),
    "speech": Voice(0.9, attack=0.012, decay=0.12, bright=0.1, vibrato=60,
        formants=((550, 120, 5.0), (1700, 250, 4.0))),
    "strings": Voice(1.1, attack=0.1, sustain=1.0, bright=1.0, detune=10, vibrato=10,
        formants=((450, 200, 1.0),)),
    "sub bass": Voice(3.0, decay=0.7, sustain=0.4, bright=0.05),
    "synth bass": Voice(1.0, decay=0.2, sustain=0.3, bright=0.1, detune=6),
    "synth lead": Voice(0.8, even=0.3, decay=0.25, sustain=0.4, bright=0.3, detune=10),
    "warm pad": Voice(2.2, attack=0.3, sustain=1.0, bright=1.0, detune=9),
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A piece of the drum kit: a gliding sine and a band of noise.

    Parameters
    ----------
    tone, tone_decay, glide
        Final frequency in Hz, seconds, and how many times higher the sine starts.
    low, high, noise_decay
        Band of the noise in Hz, seconds.
    tone_level, noise_level
        Amplitudes.
    """

    tone: float = 0.0
    tone_decay: float = 0.1
    glide: float = 1.0
    tone_level: float = 0.0
    low: float = 0.0
    high: float = 11_000.0
    noise_decay: float = 0.05
    noise_level: float = 0.0


KIT: Final = {
    "brush": Piece(low=1500, high=6000, noise_decay=0.09, noise_level=0.5),
    "clap": Piece(low=900, high=3500, noise_decay=0.07, noise_level=1.4),
    "crash": Piece(low=3500, noise_decay=0.6, noise_level=0.9),
    "hat": Piece(low=7000, noise_decay=0.025, noise_level=1.2),
    "kick": Piece(tone=50, glide=4, tone_decay=0.12,
        tone_level=1.2, high=2500, noise_decay=0.008, noise_level=0.5),
    "open hat": Piece(low=6000, noise_decay=0.14, noise_level=1.1),
    "ride": Piece(tone=4200, tone_decay=0.2, tone_level=0.06, low=5000, noise_decay=0.2, noise_level=0.5),
    "rim": Piece(tone=1700, tone_decay=0.02, tone_level=0.7, low=1200, noise_decay=0.02, noise_level=0.6),
    "rumble": Piece(tone=42, tone_decay=0.9, tone_level=0.3, high=160, noise_decay=0.9, noise_level=2.0),
    "shaker": Piece(low=6500, high=9500, noise_decay=0.04, noise_level=1.6),
    "snare": Piece(tone=185, glide=1.3, tone_decay=0.07,
        tone_level=0.6, low=1200, noise_decay=0.1, noise_level=1.0),
    "tambourine": Piece(tone=6900, tone_decay=0.1,
        tone_level=0.12, low=7500, noise_decay=0.09, noise_level=1.3),
    "tick": Piece(tone=2900, tone_decay=0.02, tone_level=0.7),
    "timpani": Piece(tone=72, glide=1.2, tone_decay=0.35,
        tone_level=1.0, high=500, noise_decay=0.05, noise_level=0.5),
    "vinyl": Piece(low=2500, high=6000, noise_decay=4.0, noise_level=0.3),
    "wind": Piece(low=700, high=1600, noise_decay=3.0, noise_level=1.2),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one instrument plays.

    Parameters
    ----------
    voice
        Key of `VOICES`.
    contour
        Key of `CONTOURS`: which notes of the chord, in which order.
    low
        MIDI number; the chord is folded into the octave above it.
    pattern
        One or more bars of sixteen steps: ``.`` rest, ``1``–``9`` loudness.
    steps
        Length of a note in steps.
    level
        Amplitude.
    """

    voice: str
    contour: str
    low: int
    pattern: str
    steps: float
    level: float


Colour = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Genre:
    """A style of band: its parts, drum patterns and chord progressions.

    Parameters
    ----------
    tempo
        Slowest and fastest, quarter notes a minute.
    swing
        Delay of every second eighth note, in steps.
    reverb
        Share of the reverberated signal, 0–1.
    colour
        Equaliser over the whole mix as (Hz, dB, quality factor).
    progressions
        Each a sequence of scale degrees, one a bar; 0 is the tonic.
    parts
        What the instruments play.
    drums
        Piece of `KIT` → pattern as in `Part`.
    """

    tempo: tuple[float, float]
    swing: float
    reverb: float
    colour: Colour
    progressions: tuple[tuple[int, ...], ...]
    parts: tuple[Part, ...]
    drums: dict[str, str]


GENRES: Final = {
    "blues": Genre(
        (84, 104), 0.65, 0.15, ((1050, 13, 4), (250, 5, 1), (3200, 5, 1), (8000, -7, 1)),
        ((0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4), (0, 3, 0, 0, 3, 3, 0, 0, 4, 3, 0, 0)),
        (
            Part("electric bass", "walk", 33, "9...8...9...8...", 3.5, 0.8),
            Part("driven guitar", "fifths", 45, "9.6.8.6.9.6.8.6.", 1.8, 0.5),
            Part("driven guitar", "melody", 62, "9..7....8.6.9..." "....7...9.......", 4, 0.55),
            Part("organ", "chord", 57, "7...............", 14, 0.2),
        ),
        {"kick": "9.......8.......", "snare": "....8.......8...", "ride": "9...7.6.9...7.6."},
    ),
    "classical": Genre(
        (72, 112), 0.0, 0.4, ((730, 13, 4), (400, 5, 1), (3000, -6, 1), (8000, -6, 1)),
        ((0, 3, 4, 0), (0, 5, 1, 4), (0, 4, 5, 2, 3, 0, 3, 4)),
        (
            Part("strings", "root", 38, "8...............", 15, 0.5),
            Part("strings", "chord", 55, "7.......7.......", 8, 0.4),
            Part("strings", "melody", 74, "8.....6.8...6.6." "9.......7...5...", 4, 0.45),
            Part("piano", "rise", 60, "7.5.6.5.7.5.6.5.", 3, 0.35),
        ),
        {},
    ),
    "country": Genre(
        (100, 124), 0.0, 0.12, ((2820, 13, 4), (120, -6, 1), (700, -3, 1), (3200, 6, 1)),
        ((0, 0, 3, 0, 0, 0, 4, 4), (0, 3, 4, 0)),
        (
            Part("electric bass", "alternate", 36, "9.......9.......", 5, 0.8),
            Part("acoustic guitar", "chord", 55, "....9.6.....9.6.", 2.5, 0.55),
            Part("banjo", "rise", 67, "8585858585858585", 1.5, 0.5),
            Part("reed", "melody", 69, "............8...9.......7.......", 5, 0.22),
        ),
        {"kick": "7.......7.......", "brush": "5363936353639363"},
    ),
    "disco": Genre(
        (114, 124), 0.0, 0.15, ((7600, 13, 4), (700, -6, 1), (8500, 6, 1)),
        ((0, 5, 3, 4), (0, 0, 3, 3), (1, 4, 0, 5)),
        (
            Part("synth bass", "octaves", 33, "9.8.9.8.9.8.9.8.", 1.6, 0.75),
            Part("electric guitar", "chord", 64, "..9..7....9..797", 0.7, 0.5),
            Part("strings", "chord", 69, "7...........6...", 11, 0.3),
            Part("brass", "chord", 62, "......9..9......" "................", 1.2, 0.4),
        ),
        {"kick": "9...9...9...9...", "open hat": "..9...9...9...9.",
         "clap": "....9.......9...", "hat": "4.4.4.4.4.4.4.4."},
    ),
    "hiphop": Genre(
        (82, 96), 0.2, 0.06, ((87, 13, 1), (60, 6, 1), (1200, -6, 1), (5500, -5, 1)),
        ((0, 0), (0, 3), (0, 5, 0, 4)),
        (
            Part("sub bass", "root", 31, "9..7....9.8.....", 3, 1.1),
            Part("electric piano", "chord", 57, "8.....6.........", 5, 0.4),
            Part("speech", "speech", 50, "9.7887.69.8.79.." "8.7798.7.987.8..", 1.2, 0.7),
        ),
        {"kick": "9......7.99.....", "snare": "....9.......9..3", "hat": "8.6.8.6.8.6.8.66"},
    ),
    "jazz": Genre(
        (132, 172), 0.6, 0.2, ((1460, 13, 4), (200, 5, 1), (1400, -6, 1), (6500, 5, 1)),
        ((1, 4, 0, 5), (0, 5, 1, 4), (1, 4, 0, 0, 2, 5, 1, 4)),
        (
            Part("electric bass", "walk", 36, "9...8...9...8...", 3.8, 0.75),
            Part("piano", "seventh", 58, "9.....7........." "....8.....7.....", 3, 0.4),
            Part("reed", "melody", 65, "8.6.8.6.9...7.6." "..8.6.8.9.......", 2, 0.5),
        ),
        {"ride": "9...8.6.9...8.6.", "hat": "....7.......7...", "brush": "..........4....."},
    ),
    "metal": Genre(
        (126, 160), 0.0, 0.06, ((3930, 13, 4), (110, 4, 1), (650, -6, 1), (3500, 6, 1)),
        ((0, 0, 5, 6), (0, 1, 0, 6), (0, 5, 3, 1)),
        (
            Part("distorted guitar", "power", 40, "9.99.99.9.999.99", 0.9, 0.75),
            Part("distorted guitar", "power", 52, "9.......8.......", 8, 0.5),
            Part("electric bass", "root", 28, "9.99.99.9.999.99", 0.9, 0.6),
            Part("distorted guitar", "melody", 76, "................" "9.8.8.7.9.8.7.6.", 2, 0.25),
        ),
        {"kick": "9999999999999999", "snare": "....9.......9...", "crash": "8...6...7...6..."},
    ),
    "pop": Genre(
        (102, 122), 0.0, 0.15, ((5460, 13, 4), (300, -4, 1), (1000, 6, 1), (9000, 5, 1)),
        ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4)),
        (
            Part("synth bass", "root", 36, "9..9..9.9..9..9.", 2, 0.6),
            Part("saw pad", "chord", 60, "8...............", 15.5, 0.35),
            Part("synth lead", "rise", 72, "9..8..7.9..8..7.", 1.5, 0.35),
            Part("choir", "melody", 67, "9...7...8.....6.", 4, 0.4),
        ),
        {"kick": "9.......9.7.....", "clap": "....9.......9...", "hat": "7.7.7.7.7.7.7.7."},
    ),
    "reggae": Genre(
        (70, 82), 0.15, 0.2, ((410, 13, 2), (70, 6, 1), (800, 6, 1), (4500, -6, 1)),
        ((0, 3), (0, 4, 3, 0), (0, 5, 3, 4)),
        (
            Part("sub bass", "alternate", 29, "9..8..8...7.8...", 2.5, 1.2),
            Part("electric guitar", "chord", 62, "..9...9...9...9.", 0.8, 0.65),
            Part("organ", "chord", 57, "..6.7.6...6.7.6.", 0.9, 0.45),
            Part("brass", "melody", 64, "................" "9.7.8...6.......", 2, 0.25),
        ),
        {"kick": "........9.......", "rim": "........9.....4.", "hat": "6.8.6.8.6.8.6.8."},
    ),
    "rock": Genre(
        (108, 138), 0.0, 0.1, ((2030, 13, 4), (180, 2, 1), (1700, 6, 1), (9000, -6, 1)),
        ((0, 6, 3, 0), (0, 3, 4, 3), (0, 4, 5, 3)),
        (
            Part("electric bass", "root", 33, "9.8.9.8.9.8.9.8.", 1.8, 0.65),
            Part("driven guitar", "power", 45, "9...8.8.9.8.8.8.", 2, 0.6),
            Part("acoustic guitar", "chord", 57, "8.6.8.6.8.6.8.6.", 1.8, 0.35),
            Part("driven guitar", "melody", 69, "9...8...6......." "....9.8.7.......", 4, 0.3),
        ),
        {"kick": "9.....9.9.......", "snare": "....9.......9...", "open hat": "8.6.8.6.8.6.8.6."},
    ),
}  # fmt: skip

MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
MINOR: Final = (0, 2, 3, 5, 7, 8, 10)
PHRYGIAN: Final = (0, 1, 3, 5, 7, 8, 10)
LOCRIAN: Final = (0, 1, 3, 5, 6, 8, 10)
WHOLE_TONE: Final = (0, 2, 4, 6, 8, 10)

EVERY_STEP: Final = "9686968696869686"
ON_ONE: Final = "9..............."


@dataclass(frozen=True)
class Mood:
    """A composite mood: how it bends the band, and what it adds.

    Parameters
    ----------
    scale
        Semitones above the tonic.
    tempo
        Factor on the genre's tempo.
    shift
        Semitones by which the band's register moves.
    colour
        As in `Genre`.
    drums
        Gain of the genre's drums.
    band
        Gain of the genre's parts.
    wobble
        Vibrato of every voice of the band, in cents.
    dynamics, period
        Gain over time, evenly spaced points, repeated every `period` bars.
    parts, percussion
        As in `Genre`; the same over every band.
    """

    scale: tuple[int, ...]
    tempo: float
    parts: tuple[Part, ...]
    percussion: dict[str, str]
    shift: int = 0
    colour: Colour = ()
    drums: float = 1.0
    band: float = 1.0
    wobble: float = 0.0
    dynamics: tuple[float, ...] = (1.0,)
    period: float = 1.0


MOOD_STYLES: Final = {
    # A dark minor drone below, a bright arpeggio climbing above it.
    "NegativeButHopeful": Mood(
        MINOR, 0.9,
        (
            Part("strings", "fifths", 38, ON_ONE, 16, 0.4),
            Part("bell", "rise", 84, "9.8.9.8.9.8.9.8.", 3, 0.34),
        ),
        {}, shift=-2,
        colour=((2390, 13, 4), (110, 5, 1), (2000, 5, 1), (6500, -6, 1)),
    ),
    # A soft dark band with busy shaker and running plucks.
    "RelaxButEnergetic": Mood(
        MAJOR, 1.1,
        (
            Part("warm pad", "seventh", 57, ON_ONE, 16, 0.23),
            Part("banjo", "fall", 76, EVERY_STEP, 1, 0.23),
        ),
        {"shaker": EVERY_STEP}, drums=0.8,
        colour=((8960, 13, 4), (2200, -6, 1), (7800, 6, 1)),
    ),
    # Major, fast, high, bright, loud all along.
    "TotallyPositive": Mood(
        MAJOR, 1.15,
        (
            Part("brass", "chord", 76, "9..9..9.9..9..9.", 1.5, 0.25),
            Part("piano", "rise", 88, "9.9.9.9.9.9.9.9.", 1.5, 0.29),
        ),
        {"tambourine": "7.7.9.7.7.7.9.7."}, shift=3,
        colour=((6440, 13, 4), (150, -5, 1), (1200, 5, 1), (5500, 6, 1)),
    ),
    # Phrygian, slow, low and muffled; clusters, tolling drums, every phrase dies away.
    "TotallyNegative": Mood(
        PHRYGIAN, 0.8,
        (
            Part("strings", "cluster", 43, ON_ONE, 16, 0.46),
            Part("sub bass", "root", 28, ON_ONE, 16, 0.46),
        ),
        {"rumble": "9.......9......."}, shift=-4, drums=0.7,
        dynamics=(1.0, 0.8, 0.6, 0.4, 1.0), period=2,
        colour=((250, 13, 2), (130, 6, 1), (1300, -6, 1), (6000, -6, 1)),
    ),
    # A major band that keeps falling silent, into wind and lone glass tones.
    "PositiveButVoid": Mood(
        MAJOR, 0.95, (Part("glass", "rise", 88, "9.......7.......", 8, 0.46),),
        {"wind": ON_ONE}, shift=2, drums=0.8,
        dynamics=(1.0, 1.0, 0.15, 0.15, 1.0), period=1,
        colour=((1240, 13, 4), (200, -6, 1), (900, 5, 1), (3500, -6, 1)),
    ),
    # Slow; choir and brass grow over two bars to a crash over timpani.
    "CalmButEpic": Mood(
        MAJOR, 0.82,
        (
            Part("choir", "chord", 62, ON_ONE, 16, 0.52),
            Part("brass", "fifths", 45, ON_ONE, 16, 0.4),
        ),
        {"timpani": "9...5...7.7.8888", "crash": ON_ONE + "." * 16}, drums=0.6, band=0.8,
        dynamics=(1.0, 0.3, 0.5, 0.75, 1.0), period=2,
        colour=((890, 13, 4), (80, 5, 1), (500, 6, 1), (3000, -5, 1)),
    ),
    # Thin as a telephone, out of tune and trembling; a music box that loses its way.
    "InsecureButInessential": Mood(
        LOCRIAN, 0.95, (Part("bell", "lost", 79, "7..5...8..6..7..", 2, 0.34),),
        {"brush": "3.3.3.3.3.3.3.3."},
        drums=0.6, wobble=70,
        dynamics=(1.0, 0.25, 1.0), period=0.25,
        colour=((1720, 13, 4), (100, -6, 1), (1900, 6, 1), (7500, -6, 1)),
    ),
    # Minor and high; a ticking clock, nervous trembling strings, light plucks.
    "ConcernedButLight": Mood(
        MINOR, 1.05,
        (
            Part("strings", "cluster", 72, EVERY_STEP, 0.8, 0.29),
            Part("acoustic guitar", "fall", 79, "9.7.9.7.9.7.9.7.", 0.7, 0.34),
        ),
        {"tick": "9.6.9.6.9.6.9.6."}, shift=1, drums=0.7,
        colour=((3330, 13, 4), (100, -6, 1), (600, 4, 1), (3000, 6, 1)),
    ),
    # Slow major, a warm pad in the middle, record noise, nothing sharp.
    "CalmButWarm": Mood(
        MAJOR, 0.82,
        (
            Part("warm pad", "chord", 53, ON_ONE, 16, 0.57),
            Part("electric piano", "rise", 62, "8...6...7...6...", 6, 0.29),
        ),
        {"vinyl": ON_ONE}, shift=-2, drums=0.6, band=0.9,
        colour=((570, 13, 4), (300, 6, 1), (2000, -6, 1), (8000, -5, 1)),
    ),
    # No key at all: whole tones, machine bleeps over the whole range, bursts of noise.
    "Other": Mood(
        WHOLE_TONE, 1.0,
        (Part("synth lead", "bleep", 60, "9.8..97.8.9..8.7", 0.8, 0.4),), {"crash": "...6......6...6."},
        wobble=25,
        colour=((4630, 13, 4), (350, -6, 1), (1200, -5, 1), (4200, 6, 1)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Chord:
    """A chord over one degree of a scale.

    Parameters
    ----------
    scale
        Semitones above the tonic, ascending, within one octave.
    tonic
        Pitch class of the tonic, 0–11.
    degree
        Scale degree of the root, 0 is the tonic.
    """

    scale: tuple[int, ...]
    tonic: int
    degree: int

    def pitch(self, degrees: int, low: int) -> int:
        """Return the scale tone `degrees` above the root, folded into the octave above `low` (MIDI)."""
        semitones = self.tonic + self.scale[(self.degree + degrees) % len(self.scale)]
        return low + (semitones - low) % 12


def _stack(
    degrees: tuple[int, ...], chord: Chord, low: int, index: int, rng: np.random.Generator
) -> list[int]:
    """Sound all degrees at once."""
    return [chord.pitch(degree, low) for degree in degrees]


def _cycle(
    degrees: tuple[int, ...], chord: Chord, low: int, index: int, rng: np.random.Generator
) -> list[int]:
    """Walk round the degrees, one a note."""
    return [chord.pitch(degrees[index % len(degrees)], low)]


def _intervals(
    semitones: tuple[int, ...], chord: Chord, low: int, index: int, rng: np.random.Generator
) -> list[int]:
    """Sound fixed intervals above the root, whatever the scale."""
    return [chord.pitch(0, low) + semitone for semitone in semitones]


def _climb(direction: int, chord: Chord, low: int, index: int, rng: np.random.Generator) -> list[int]:
    """Go through the triad over two octaves, up (1) or down (-1)."""
    notes = sorted(chord.pitch(degree, low) for degree in (0, 2, 4))
    ladder = [*notes, *(note + 12 for note in notes)][::direction]
    return [ladder[index % len(ladder)]]


def _octaves(chord: Chord, low: int, index: int, rng: np.random.Generator) -> list[int]:
    """Alternate between the root and its octave."""
    return [chord.pitch(0, low) + 12 * (index % 2)]


def _sing(chord: Chord, low: int, index: int, rng: np.random.Generator) -> list[int]:
    """Draw a note of a tune, mostly from the chord."""
    return [chord.pitch(int(rng.choice((0, 2, 2, 4, 4, 5, 1))), low)]


def _scatter(semitones: int, chord: Chord, low: int, index: int, rng: np.random.Generator) -> list[int]:
    """Draw any of so many semitones from `low`, without regard to the chord."""
    return [low + int(rng.integers(semitones))]


Contour = Callable[[Chord, int, int, np.random.Generator], list[int]]

# Contour → (chord, lowest MIDI number, how many notes came before, random stream) → MIDI numbers.
CONTOURS: Final[dict[str, Contour]] = {
    "root": partial(_stack, (0,)),
    "chord": partial(_stack, (0, 2, 4)),
    "seventh": partial(_stack, (0, 2, 4, 6)),
    "fifths": partial(_intervals, (0, 7)),
    "power": partial(_intervals, (0, 7, 12)),
    "cluster": partial(_intervals, (0, 1, 2)),
    "alternate": partial(_cycle, (0, 4)),
    "walk": partial(_cycle, (0, 2, 4, 5)),
    "rise": partial(_climb, 1),
    "fall": partial(_climb, -1),
    "octaves": _octaves,
    "melody": _sing,
    "speech": partial(_scatter, 5),
    "lost": partial(_scatter, 13),
    "bleep": partial(_scatter, 37),
}


@dataclass(frozen=True)
class Artist:
    """A band's own sound, in small deviations from its genre.

    Parameters
    ----------
    tempo
        Place in the genre's tempo range, 0–1.
    colour
        As in `Genre`.
    reverb
        Factor on the genre's reverb.
    rolloff
        Factor on the rolloff of the voices.
    drums
        Factor on the pitch of the drums.
    balance
        Gain of each part, for up to `MOST_PARTS` of them.
    tonic
        Favourite key, 0–11.
    """

    tempo: float
    colour: Colour
    reverb: float
    rolloff: float
    drums: float
    balance: tuple[float, ...]
    tonic: int


MOST_PARTS: Final = 4
ARTIST_HZ: Final = (120.0, 600.0, 2400.0, 7000.0)


@dataclass(frozen=True)
class Score:
    """The frame of one track in which all parts play.

    Parameters
    ----------
    samples
        Length of the clip.
    step
        Samples a sixteenth note.
    swing
        Delay of every second eighth note, in steps.
    chords
        One a bar, repeated.
    """

    samples: int
    step: float
    swing: float
    chords: tuple[Chord, ...]

    def onsets(self, pattern: str) -> Iterator[tuple[int, int, float]]:
        """Yield (first sample, bar, loudness 0–1) of every note of a pattern."""
        for position in range(int(self.samples / self.step)):
            loudness = pattern[position % len(pattern)]
            if loudness == ".":
                continue
            late = self.swing * (0.0, 0.0, 1.0, 0.5)[position % 4]
            yield int((position + late) * self.step), position // STEPS_PER_BAR, int(loudness) / 9


def _exact(values: np.ndarray) -> np.ndarray:
    """Round to 2^-24, which hides the last bits in which processors disagree."""
    return np.round(np.asarray(values, dtype=np.float64) * 2.0**24) / 2.0**24


def _fall(seconds: float, samples: int) -> np.ndarray:
    """Return an exponential decay from 1 with a time constant in seconds; shape (samples,)."""
    return _exact(np.exp(np.arange(samples) / (-seconds * SAMPLE_RATE)))


@cache
def _one_pole(hertz: float) -> tuple[list[float], list[float]]:
    """Return numerator and denominator of a first-order low-pass."""
    pole = float(_exact(np.exp(-2 * np.pi * hertz / SAMPLE_RATE)))
    return [1 - pole], [1, -pole]


def _lowpass(signal: np.ndarray, hertz: float) -> np.ndarray:
    """Remove what lies above, by 6 dB an octave; shape (samples,)."""
    return lfilter(*_one_pole(hertz), signal)


def _highpass(signal: np.ndarray, hertz: float) -> np.ndarray:
    """Remove what lies below, by 6 dB an octave; shape (samples,)."""
    return signal - _lowpass(signal, hertz)


def _waveform(voice: Voice, rolloff: float, frequency: float) -> np.ndarray:
    """Return one cycle of a voice at a pitch, band-limited, with a root mean square of 1; shape (2048,)."""
    size = 1 << TABLE_BITS
    number = np.arange(1, min(int(NYQUIST_MARGIN * SAMPLE_RATE / frequency), size // 4) + 1)
    amplitude = number**-rolloff * np.where(number % 2, 1.0, voice.even)
    for centre, width, gain in voice.formants:
        amplitude *= 1 + gain * np.exp(-(((number * frequency - centre) / width) ** 2))
    # Schroeder's phases keep the peak of many harmonics low.
    phase = np.pi * number * number / len(number)
    spectrum = np.zeros(size // 2 + 1, dtype=complex)
    spectrum[number] = amplitude * np.exp(1j * phase)
    cycle = np.fft.irfft(spectrum)
    return _exact(cycle / np.sqrt(np.mean(cycle**2)))


def _phase(frequency: float, vibrato: float, samples: int) -> np.ndarray:
    """Return positions in a waveform table, in integers and hence exact; shape (samples,)."""
    clock = np.arange(samples, dtype=np.int64)
    ticks = clock * round(frequency / SAMPLE_RATE * 2**32)
    if vibrato:
        # The phase deviates by depth / (2 pi rate) cycles.
        deviation = frequency * (2 ** (vibrato / 1200) - 1) / (2 * np.pi * VIBRATO_HZ)
        ticks += (_exact(deviation * np.sin(2 * np.pi * VIBRATO_HZ / SAMPLE_RATE * clock)) * 2**32).astype(
            np.int64
        )
    return (ticks >> (32 - TABLE_BITS)) & ((1 << TABLE_BITS) - 1)


def _envelope(voice: Voice, samples: int) -> np.ndarray:
    """Return a note's loudness over time, 0–1; shape (samples,)."""
    curve = voice.sustain + (1 - voice.sustain) * _fall(voice.decay, samples)
    attack = min(max(int(voice.attack * SAMPLE_RATE), 1), samples)
    release = min(int(RELEASE_SECONDS * SAMPLE_RATE), samples)
    curve[:attack] *= np.arange(attack) / attack
    curve[samples - release :] *= np.arange(release, 0, -1) / release
    return curve


def render_note(voice: Voice, samples: int, midi: int) -> np.ndarray:
    """Synthesise one note at full loudness.

    Parameters
    ----------
    voice
        The instrument.
    samples
        Length at `SAMPLE_RATE`, positive.
    midi
        MIDI number; 69 is 440 Hz.

    Returns
    -------
    np.ndarray
        Shape (samples,), float64, root mean square about 1 at its start.
    """
    frequency = 440.0 * 2 ** ((midi - 69) / 12)
    bright = _waveform(voice, voice.rolloff, frequency)
    dark = _waveform(voice, voice.rolloff + DARKER, frequency)
    fading = _fall(voice.bright, samples)
    tone = np.zeros(samples)
    for cents in dict.fromkeys((0.0, voice.detune)):
        phase = _phase(frequency * 2 ** (cents / 1200), voice.vibrato, samples)
        tone += dark[phase] + fading * (bright - dark)[phase]
    return tone * _envelope(voice, samples)


def _add(track: np.ndarray, sound: np.ndarray, start: int, gain: float) -> None:
    """Mix a sound into a track in place, cut at its end."""
    room = track[start : start + len(sound)]
    room += gain * sound[: len(room)]


def _play_part(score: Score, part: Part, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Return one part over the whole clip; shape (samples,)."""
    track = np.zeros(score.samples)
    tone = cache(partial(render_note, voice, max(int(part.steps * score.step), 2)))
    contour = CONTOURS[part.contour]
    for index, (start, bar, loudness) in enumerate(score.onsets(part.pattern)):
        for midi in contour(score.chords[bar % len(score.chords)], part.low, index, rng):
            _add(track, tone(midi), start, loudness)
    if voice.drive:
        track *= voice.drive / 4
        track /= 1 + np.abs(track)
    return part.level * track


def _hit(piece: Piece, tuning: float, rng: np.random.Generator) -> np.ndarray:
    """Return one stroke on a piece of the kit."""
    samples = int(4 * max(piece.tone_decay, piece.noise_decay) * SAMPLE_RATE)
    noise = _lowpass(_highpass(rng.uniform(-1, 1, samples), piece.low), piece.high)
    sound = piece.noise_level * noise * _fall(piece.noise_decay, samples)
    if not piece.tone_level:
        return sound
    pitch = piece.tone * tuning * (1 + (piece.glide - 1) * _fall(piece.tone_decay / 4, samples))
    tone = _exact(np.sin(2 * np.pi / SAMPLE_RATE * np.cumsum(pitch)))
    return sound + piece.tone_level * tone * _fall(piece.tone_decay, samples)


def _play_drums(
    score: Score, patterns: dict[str, str], tuning: float, rng: np.random.Generator
) -> np.ndarray:
    """Return all drums of a pattern table over the whole clip; shape (samples,)."""
    track = np.zeros(score.samples)
    for name, pattern in patterns.items():
        sound = _hit(KIT[name], tuning, rng)
        for start, _bar, loudness in score.onsets(pattern):
            _add(track, sound, start, loudness)
    return track


DAMPING_HZ: Final = 3500.0
# Schroeder's parallel combs: delay in samples, and the gain that lets it fade by 60 dB in about 1.6 s.
COMBS: Final = ((1116, 0.80), (1277, 0.78), (1422, 0.76), (1557, 0.74))


def comb_filter(signal: np.ndarray, delay: int, gain: float) -> np.ndarray:
    """Add echoes every `delay` samples, each `gain` times the one before; shape (samples,)."""
    rows = np.zeros((-(-len(signal) // delay), delay))
    rows.ravel()[: len(signal)] = signal
    for before, row in pairwise(rows):
        row += gain * before
    return rows.ravel()[: len(signal)]


def _reverberate(signal: np.ndarray, share: float) -> np.ndarray:
    """Add the echoes of a room; shape (samples,)."""
    damped = _lowpass(signal, DAMPING_HZ)
    echoes = sum(comb_filter(damped, delay, gain) for delay, gain in COMBS)
    return signal + share / len(COMBS) * echoes


@cache
def _peak(hertz: float, decibel: float, quality: float) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator and denominator of a peaking equaliser (Bristow-Johnson's cookbook)."""
    angle = 2 * np.pi * hertz / SAMPLE_RATE
    width, gain = np.sin(angle) / (2 * quality), 10 ** (decibel / 40)
    numerator = np.array((1 + width * gain, -2 * np.cos(angle), 1 - width * gain))
    denominator = np.array((1 + width / gain, -2 * np.cos(angle), 1 - width / gain))
    return _exact(numerator / denominator[0]), _exact(denominator / denominator[0])


def equalise(signal: np.ndarray, colour: Colour) -> np.ndarray:
    """Pass a signal through one peaking filter for each (Hz, dB, quality factor); shape (samples,)."""
    for hertz, decibel, quality in colour:
        signal = lfilter(*_peak(hertz, decibel, quality), signal)
    return signal


def _dynamics(mood: Mood, score: Score) -> np.ndarray:
    """Return the band's gain over time; shape (samples,)."""
    period = mood.period * STEPS_PER_BAR * score.step
    place = (np.arange(score.samples) % period) / period
    return np.interp(place, np.linspace(0, 1, len(mood.dynamics)), mood.dynamics)


def draw_artist(rng: np.random.Generator) -> Artist:
    """Draw a band's own sound; another stream, another band."""
    return Artist(
        tempo=rng.uniform(),
        colour=tuple((hertz, rng.uniform(-1.5, 1.5), 1.0) for hertz in ARTIST_HZ),
        reverb=rng.uniform(0.6, 1.6),
        rolloff=rng.uniform(0.9, 1.12),
        drums=rng.uniform(0.88, 1.14),
        balance=tuple(rng.uniform(0.8, 1.25, MOST_PARTS)),
        tonic=int(rng.integers(12)),
    )


def _score(genre: Genre, mood: Mood, artist: Artist, samples: int, rng: np.random.Generator) -> Score:
    """Draw a track's tempo, key and progression."""
    slow, fast = genre.tempo
    tempo = (slow + artist.tempo * (fast - slow)) * mood.tempo * rng.uniform(0.98, 1.02)
    tonic = (artist.tonic + int(rng.choice((0, 0, 5, 7, 2)))) % 12
    degrees = genre.progressions[int(rng.integers(len(genre.progressions)))]
    chords = tuple(Chord(mood.scale, tonic, degree) for degree in degrees)
    return Score(samples, SAMPLE_RATE * 60 / tempo / 4, genre.swing, chords)


def _play_band(
    score: Score, genre: Genre, mood: Mood, artist: Artist, rng: np.random.Generator
) -> np.ndarray:
    """Return the genre's band, bent by artist and mood; shape (samples,)."""
    track = mood.drums * _play_drums(score, genre.drums, artist.drums, rng)
    for part, gain in zip(genre.parts, artist.balance, strict=False):
        voice = VOICES[part.voice]
        own = replace(voice, rolloff=voice.rolloff * artist.rolloff, vibrato=voice.vibrato + mood.wobble)
        track += mood.band * gain * _play_part(score, replace(part, low=part.low + mood.shift), own, rng)
    return track * _dynamics(mood, score)


def _gain(signal: np.ndarray) -> float:
    """Return the factor that brings a signal to `LOUDNESS`, or less where a peak would pass `PEAK`."""
    loudness = np.sqrt(np.mean(signal**2))
    return float(_exact(min(LOUDNESS / loudness, PEAK / np.abs(signal).max())))


def render(genre: str, mood: str, artist: Artist, *, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesise one clip.

    Parameters
    ----------
    genre
        Key of `GENRES`.
    mood
        Key of `MOOD_STYLES`.
    artist
        The band's own sound, from `draw_artist`.
    samples
        Length of the clip at `SAMPLE_RATE`, positive.
    rng
        Draws tempo, key, progression, melodies and noise.

    Returns
    -------
    np.ndarray
        Mono, shape (samples,), int16, at most `PEAK` of full scale.
    """
    genre_style, mood_style = GENRES[genre], MOOD_STYLES[mood]
    score = _score(genre_style, mood_style, artist, samples, rng)
    signal = _play_band(score, genre_style, mood_style, artist, rng)
    for part in mood_style.parts:
        signal += _play_part(score, part, VOICES[part.voice], rng)
    signal += _play_drums(score, mood_style.percussion, 1.0, rng)
    signal += _lowpass(rng.uniform(-HISS, HISS, samples), HISS_HZ)
    signal = equalise(signal, genre_style.colour + mood_style.colour + artist.colour)
    signal = _reverberate(signal, genre_style.reverb * artist.reverb)
    return np.round(signal * (32767 * _gain(signal))).astype(np.int16)
