"""Units that answers name: which words and signs mean one unit, and which units convert into each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

_TABLE: dict[str, str] = {
    "usd": "$ us$ usd dollar dollars buck bucks=1 ¢ cent cents penny pennies=1/100",
    "eur": "€ eur euro euros=1 eurocent eurocents=1/100",
    "gbp": "£ gbp pound_sterling pounds_sterling=1 pence=1/100",
    "jpy": "¥ jpy yen=1",
    "inr": "₹ rs rs. inr rupee rupees=1 paise paisa=1/100",
    "length": "mm millimeter millimetre=1/1000 cm centimeter centimetre=1/100 dm=1/10 m meter metre=1 "
    "km kilometer kilometre=1000 inch inches=127/5000 ft foot feet=381/1250 yd yard=1143/1250 mi mile=201168/125",
    "mass": "mg milligram=1/1000 g gm gram=1 kg kilogram kilo=1000 oz ounce=28349523125/1000000000 "
    "lb lbs=45359237/100000 ton tonne=1000000",
    "volume": "ml milliliter millilitre=1/1000 cl=1/100 l liter litre=1",
    "gallon": "gal gallon=1 qt quart=1/4 pint=1/8 cup=1/16",
    "time": "s sec second=1 min minute=60 h hr hour=3600 day=86400 week=604800",
    "months": "month=1 yr year=12 decade=120 century centuries=1200",
    "area": "sq_cm cm^2 square_cm square_centimeter square_centimetre=1/10000 "
    "sq_m m^2 square_m square_meter square_metre=1 sq_km km^2 square_km square_kilometer square_kilometre=1000000 "
    "sq_in in^2 inch^2 square_inch square_inches=16129/25000000 "
    "sq_ft ft^2 square_ft square_foot square_feet=145161/1562500 "
    "hectare=10000 sq_mi square_mile mi^2=40468564224/15625",
    "acre": "acre=1",
    "cubic": "cc cm^3 cubic_cm cubic_centimeter cubic_centimetre=1 m^3 cubic_m cubic_meter cubic_metre=1000000 "
    "in^3 cubic_inch cubic_inches=2048383/125000 ft^3 cubic_ft cubic_foot cubic_feet=1769802912/62500",
    "speed": "m/s meters/second metres/second meters_per_second metres_per_second=1 "
    "km/h kmh kmph kph kilometers/hour kilometres/hour kilometers_per_hour kilometres_per_hour km_per_hour "
    "km/hr=5/18 mph miles/hour miles_per_hour mi/h miles/hr mile/hour=1397/3125 "
    "ft/s feet/second feet_per_second=381/1250",
    "angle": "degree deg=1",
    "radian": "rad radian=1",
    "celsius": "°c degree_celsius degrees_celsius celsius=1",
    "fahrenheit": "°f degree_fahrenheit degrees_fahrenheit fahrenheit=1",
    "kelvin": "kelvin=1",
    "count": "dozen=12",
}
"""Dimension to groups of names, each group with what one of it is in the dimension's own unit."""


@dataclass(frozen=True)
class Unit:
    """A unit that converts into all others of its dimension and into none else.

    Args:
        dimension: a name.
        factor: one of it in the dimension's own unit.
    """

    dimension: str
    factor: Fraction


def _read(table: dict[str, str]) -> Iterator[tuple[str, Unit]]:
    for dimension, groups in table.items():
        waiting: list[str] = []
        for word in groups.split():
            name, equals, factor = word.partition("=")
            waiting.append(name)
            if equals:
                for known in waiting:
                    yield known.replace("_", " "), Unit(dimension, Fraction(factor))
                waiting = []


UNITS: dict[str, Unit] = dict(_read(_TABLE))
CURRENCIES = ("usd", "eur", "gbp", "jpy", "inr")
CURRENCY_SIGNS = ("US$", "USD", "EUR", "GBP", "INR", "JPY", "Rs.", "Rs", "$", "€", "£", "¥", "₹")
LONGEST = max(len(name.split()) for name in UNITS)


def known_unit(words: str) -> Unit | None:
    """The unit that words begin with, longest name first: ``km/h``, ``square feet of wall``; None if it is not listed.

    Args:
        words: what stands behind a number, spaces single.
    """
    found = re.sub(r"\^\{?([23])\}?", r"^\1", words.replace("^{\\circ}", "°")).strip(" .,;")
    found = re.sub(r"° (?=[CFcf](?![A-Za-z]))", "°", found)
    parts = found.split(" ")
    for count in range(min(LONGEST, len(parts)), 0, -1):
        for name in _spellings(" ".join(parts[:count]).rstrip(".,;:")):
            if name in UNITS:
                return UNITS[name]
    return None


def _spellings(name: str) -> Iterable[str]:
    if name == "°":
        return ("degree",)
    low = name.lower()
    singular = low.removesuffix("s") if len(low) > 3 else low
    return (low, singular, low.replace(" per ", "/"), low.replace("squared", "").strip())
