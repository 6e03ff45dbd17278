"""The code of the dashboard verifies a signature in each of its languages, with the header of the deployment."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import parts
from api.webhooks.code_samples import samples
from streams.core.deliveries.signing import sign_platform

HEADER = "X-Acme-Signature"
SECRET, NEW_SECRET = "whsec_b2xk", "whsec_bmV3"
BODY = '{"title": "Größe", "emoji": "🎓"}'.encode()
# Whether the code accepts a request with these signatures, for a receiver that knows SECRET.
REQUESTS: dict[str, tuple[Mapping[str, str], bytes, bool]] = {
    "signed": ({HEADER: sign_platform(SECRET, BODY)}, BODY, True),
    "rotated": (
        {HEADER: sign_platform(NEW_SECRET, BODY), f"{HEADER}-Next": sign_platform(SECRET, BODY)},
        BODY,
        True,
    ),
    "forged": ({HEADER: sign_platform(NEW_SECRET, BODY)}, BODY, False),
    "changed": ({HEADER: sign_platform(SECRET, BODY)}, BODY + b" ", False),
    "unsigned": ({}, BODY, False),
    "short": ({HEADER: sign_platform(SECRET, BODY)[:10]}, BODY, False),
}
CODE = {sample.language: sample.code for sample in samples(HEADER)}


def run(folder: Path, *command: str | Path, output: bool = True) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1] if output else ""


def in_python(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    names: dict[str, Callable[..., bool]] = {}
    exec(CODE["Python"], names)
    return str(names["is_genuine"](headers, body, SECRET))


def in_node(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    lower = json.dumps({name.lower(): value for name, value in headers.items()})
    call = f"console.log(isGenuine({lower}, Buffer.from({json.dumps(body.decode())}), {SECRET!r}));"
    (folder / "verify.js").write_text(f"{CODE['Node']}\n{call}")
    return run(folder, "node", "verify.js")


def in_php(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    server = json.dumps({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
    (folder / "body").write_bytes(body)
    call = f"echo json_encode(is_genuine(json_decode('{server}', true), file_get_contents('body'), '{SECRET}'));"
    (folder / "verify.php").write_text(f"{CODE['PHP']}\n{call}")
    return run(folder, "php", "verify.php")


def in_ruby(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    (folder / "body").write_bytes(body)
    call = f"require 'json'\nputs genuine?(JSON.parse('{json.dumps(headers)}'), File.binread('body'), '{SECRET}')"
    (folder / "verify.rb").write_text(f"{CODE['Ruby']}\n{call}")
    return run(folder, "ruby", "verify.rb")


GO_MAIN = """
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	headers := http.Header{}
	for at := 2; at < len(os.Args); at += 2 {
		headers.Set(os.Args[at], os.Args[at+1])
	}
	body, _ := os.ReadFile("body")
	fmt.Println(IsGenuine(headers, body, os.Args[1]))
}
"""


def in_go(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    (folder / "body").write_bytes(body)
    program = folder / "verify"
    if not program.exists():
        (folder / "go.mod").write_text("module verify\n\ngo 1.19\n")
        (folder / "verify.go").write_text(CODE["Go"].replace("package webhooks", "package main"))
        (folder / "main.go").write_text(GO_MAIN)
        run(folder, "go", "build", "-o", program, output=False)
    return run(folder, program, SECRET, *(part for pair in headers.items() for part in pair))


JAVA_MAIN = """
import java.nio.file.*;
import java.util.*;

class Main {
    public static void main(String[] given) throws Exception {
        Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
        for (int at = 1; at < given.length; at += 2) headers.put(given[at], given[at + 1]);
        System.out.println(Signatures.isGenuine(headers::get, Files.readAllBytes(Path.of("body")), given[0]));
    }
}
"""


def in_java(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    (folder / "body").write_bytes(body)
    if not (folder / "Main.class").exists():
        (folder / "Signatures.java").write_text(CODE["Java"])
        (folder / "Main.java").write_text(JAVA_MAIN)
        run(folder, "javac", "Main.java", "Signatures.java", output=False)
    return run(folder, "java", "-cp", ".", "Main", SECRET, *(part for pair in headers.items() for part in pair))


CSHARP_MAIN = """
using System;
using System.Collections.Generic;
using System.IO;

static class Program
{
    static void Main(string[] given)
    {
        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        for (int at = 1; at < given.Length; at += 2) headers[given[at]] = given[at + 1];
        string found;
        Func<string, string> header = name => headers.TryGetValue(name, out found) ? found : null;
        Console.WriteLine(Signatures.IsGenuine(header, File.ReadAllBytes("body"), given[0]));
    }
}
"""


def in_csharp(folder: Path, headers: Mapping[str, str], body: bytes) -> str:
    (folder / "body").write_bytes(body)
    if not (folder / "verify.exe").exists():
        (folder / "Signatures.cs").write_text(CODE["C#"])
        (folder / "Program.cs").write_text(CSHARP_MAIN)
        run(folder, "mcs", "-out:verify.exe", "Program.cs", "Signatures.cs", output=False)
    return run(folder, "mono", "verify.exe", SECRET, *(part for pair in headers.items() for part in pair))


LANGUAGES: dict[str, tuple[Callable[[Path, Mapping[str, str], bytes], str], Callable[[], Path | None] | None]] = {
    "Python": (in_python, None),
    "Node": (in_node, parts.node),
    "PHP": (in_php, parts.php),
    "Ruby": (in_ruby, parts.ruby),
    "Go": (in_go, parts.go),
    "Java": (in_java, parts.java_compiler),
    "C#": (in_csharp, parts.csharp),
}


def test_each_sample_has_a_test() -> None:
    assert CODE.keys() == LANGUAGES.keys()


@pytest.mark.real
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sample_verifies_requests(language: str, tmp_path: Path) -> None:
    verify, part = LANGUAGES[language]
    if part is not None and not part() and not parts.in_ci():
        pytest.skip(f"{language} is missing: tests/parts.py brings it")
    for name, (headers, body, genuine) in REQUESTS.items():
        assert verify(tmp_path, headers, body).lower() == str(genuine).lower(), name
    assert "AllureConnect" not in CODE[language]
