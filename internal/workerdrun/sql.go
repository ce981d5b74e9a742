package workerdrun

import (
	"os"
	"path/filepath"
	"strings"
)

// readStatements returns the SQL statements of a folder's files, in the order
// of their names.
func readStatements(folder string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.sql"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, file := range files {
		sql, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		all = append(all, splitStatements(string(sql))...)
	}
	return all, nil
}

// splitStatements splits SQL in which neither a semicolon nor two dashes stand
// inside of a string, as in our migrations.
func splitStatements(sql string) []string {
	code := ""
	for line := range strings.Lines(sql) {
		line, _, _ = strings.Cut(line, "--")
		code += strings.TrimRight(line, "\n") + "\n"
	}
	var statements []string
	for statement := range strings.SplitSeq(code, ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}
