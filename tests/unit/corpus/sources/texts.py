"""Licence texts that the tests judge: short ones in full, long ones by their landmarks, with their real appendices."""

from pathlib import Path

from app.corpus.sources.licence_texts import licence_table

APPENDICES = Path(__file__).with_name("appendices")
MIT = """MIT License

Copyright (c) 2021 Jane Doe and other contributors

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
BSD_CLAUSES = """
Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
"""
BSD_ADVERTISING = """
3. All advertising materials mentioning features or use of this software must display the following acknowledgement:
   This product includes software developed by the organization.
"""
BSD_ENDORSEMENT = """
* Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products
  derived from this software without specific prior written permission.
"""
BSD_DISCLAIMER = """
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
BSD_2 = "Copyright (c) 2020, Jane Doe\nAll rights reserved.\n" + BSD_CLAUSES + BSD_DISCLAIMER
BSD_3 = "BSD 3-Clause License\n\nCopyright (c) 2020, Jane Doe\n" + BSD_CLAUSES + BSD_ENDORSEMENT + BSD_DISCLAIMER
BSD_4 = "Copyright (c) 1990 Jane Doe\n" + BSD_CLAUSES + BSD_ADVERTISING + BSD_ENDORSEMENT + BSD_DISCLAIMER
ISC = """ISC License

Copyright (c) 2018, Jane Doe

Permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""
APACHE_HEADER = """Copyright 2020 Jane Doe

Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with the
License. You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an
"AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific
language governing permissions and limitations under the License.
"""
JSON_LICENCE = MIT.replace("THE SOFTWARE IS", "The Software shall be used for Good, not Evil.\n\nTHE SOFTWARE IS")
COMMONS_CLAUSE = (
    '"Commons Clause" License Condition: the License does not grant to you the right to Sell the Software.\n'
)


def standin(licence: str) -> str:
    """A text with the landmarks and the word count of a long licence, which is not worth quoting in full."""
    entry = next(entry for entry in licence_table()["texts"] if entry.licence == licence and entry.words[1] > 500)
    begin, end = f"{entry.begin[0]} {' '.join(entry.holds)}", entry.end[0]
    filling = " word" * ((entry.words[0] + entry.words[1]) // 2 - len(f"{begin} {end}".split()))
    return f"{begin}{filling} {end}"


def with_appendix(licence: str) -> str:
    """A long licence with what stands after its terms where it is published: appendices/ has that word for word."""
    return f"{standin(licence)}\n{(APPENDICES / f'{licence}.txt').read_text()}"
