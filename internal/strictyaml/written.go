package strictyaml

import (
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// asWritten undoes, in the words of v, what YAML makes of those that look like something else: 0644 is a mode and not the number
// 420, 1.10 a version and not 1.1, 007 a name. What decodes itself is left as it is.
func asWritten(v reflect.Value, n ast.Node) {
	if !v.CanSet() { // a field that is nobody else's
		return
	}
	if _, itself := v.Addr().Interface().(interface{ UnmarshalYAML(func(any) error) error }); itself {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			asWritten(v.Elem(), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			asWritten(v.Field(i), member(v.Type().Field(i), n))
		}
	case reflect.Slice:
		if list, ok := n.(*ast.SequenceNode); ok {
			for i := range min(v.Len(), len(list.Values)) {
				asWritten(v.Index(i), list.Values[i])
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			_, value := child(n, key.String())
			word := reflect.New(v.Type().Elem()).Elem()
			word.Set(v.MapIndex(key))
			asWritten(word, value)
			v.SetMapIndex(key, word)
		}
	case reflect.String:
		switch n.(type) {
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
			v.SetString(n.GetToken().Value)
		}
	}
}

// member is what the document has for a field of a struct that stands for n; nil when it has nothing.
func member(f reflect.StructField, n ast.Node) ast.Node {
	if f.Anonymous { // inline
		return n
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	_, value := child(n, name)
	return value
}
