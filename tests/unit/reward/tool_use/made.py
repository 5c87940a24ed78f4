"""Functions to make tools of, in no package."""

from app.corpus.records import FUNCTION, Document, Origin
from app.reward.tool_use.functions import ToolFunction, tool_of

ORIGIN = Origin(distribution="texts", version="1.0", licence="MIT", path="texts/lines.py")
SOURCES = (
    '''def shorten_line(line: str, width: int = 40, mode: Literal["middle", "end"] = "end") -> str:
    """Shorten a line of text to the width given.

    Args:
        line: The line.
        width: Characters at most.
        mode: Where letters are left out.
    """
    return line[:width]
''',
    '''def count_vowels(word):
    """Counts the vowels of a word, without regard to case.

    :param word: the word to look at
    :type word: str
    """
    return sum(letter in "aeiou" for letter in word.lower())
''',
    '''def mean_temperature(readings: list[float], unit: str = "C", ignore_missing: bool = False) -> float:
    """Compute the mean of all temperatures that were read.

    Parameters
    ----------
    readings : list of float
        Values of the thermometer.
    unit : {'C', 'F'}
        What they were read in.
    ignore_missing : bool
        Leave gaps out.
    """
    return sum(readings) / len(readings)
''',
    '''def rename_column(table_path: "str | Path", old: str, new: str, *, encoding: Optional[str] = None):
    """Rename one column of a table on the disk.

    Args:
        table_path: Place of the table.
        old: The name that it has.
        new: The name that it gets.
        encoding: How the file is written.
    """
    return table_path
''',
    '''def resize_picture(path: os.PathLike, width: int, height: int, keep_ratio: bool = True):
    """Resize a picture and save it again under its name.

    Args:
        path: The picture's file.
        width: New width in pixels.
        height: New height in pixels.
        keep_ratio: Keep the ratio of its sides.
    """
    return path
''',
    '''def sort_numbers(numbers: Sequence[int], descending: bool = False) -> list:
    """Sort whole numbers by their size.

    Args:
        numbers: What is sorted.
        descending: The largest first.
    """
    return sorted(numbers)
''',
    '''def encode_password(password: str, rounds: int = 12) -> str:
    """Encode a password so that nobody can read it.

    Args:
        password: The password.
        rounds: How often it is mixed.
    """
    return password
''',
    '''def cut_text(text: str, width: int) -> str:
    """Shorten a text to the given width of a line.

    Args:
        text: The text.
        width: Characters at most.
    """
    return text[:width]
''',
    '''def list_pictures(folder: str = ".", hidden: bool = False) -> list:
    """List all pictures that a folder holds.

    Args:
        folder: Where they are.
        hidden: Hidden ones too.
    """
    return [folder]
''',
    '''def find_holidays(country: str, year: int) -> list:
    """Find public holidays of a country in one year.

    Args:
        country: Name of the country.
        year: The year.
    """
    return []
''',
)


def document(source: str) -> Document:
    name = source.partition("def ")[2].partition("(")[0]
    return Document(kind=FUNCTION, name=name, text=source, header="")


def tool(source: str) -> ToolFunction:
    made = tool_of(document(source), ORIGIN)
    assert made is not None, source
    return made


TOOLS = [tool(source) for source in SOURCES]
