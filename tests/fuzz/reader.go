// Reads request bodies as Ollama does and says what it found.  Input: a letter (j for JSON, f for a form), a length of
// four bytes, a body, and so on.  Output: one line of JSON for each.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"mime/multipart"
	"os"
)

type request struct {
	Model     string          `json:"model"`
	Name      string          `json:"name"`
	Stream    *bool           `json:"stream,omitempty"`
	KeepAlive json.RawMessage `json:"keep_alive,omitempty"`
	Messages  json.RawMessage `json:"messages"`
	Prompt    json.RawMessage `json:"prompt"`
	Options   map[string]any  `json:"options"`
}

type reading struct {
	OK        bool     `json:"ok"`
	Model     string   `json:"model"`
	Name      string   `json:"name"`
	Stream    *bool    `json:"stream"`
	KeepAlive string   `json:"keep_alive"`
	Values    []string `json:"values"`
	Files     int      `json:"files"`
}

func readJSON(body []byte) reading {
	var asked request
	err := json.NewDecoder(bytes.NewReader(body)).Decode(&asked)
	return reading{
		OK: err == nil, Model: asked.Model, Name: asked.Name, Stream: asked.Stream, KeepAlive: string(asked.KeepAlive),
	}
}

func readForm(body []byte) reading {
	form, err := multipart.NewReader(bytes.NewReader(body), "x").ReadForm(1 << 20)
	if err != nil {
		return reading{}
	}
	return reading{OK: true, Values: form.Value["model"], Files: len(form.File["model"])}
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for {
		kind, err := in.ReadByte()
		if err != nil {
			return
		}
		var length uint32
		if binary.Read(in, binary.BigEndian, &length) != nil {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if kind == 'f' {
			encoder.Encode(readForm(body))
		} else {
			encoder.Encode(readJSON(body))
		}
		out.Flush()
	}
}
