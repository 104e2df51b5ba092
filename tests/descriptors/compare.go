// Package descriptors compares our proto/api.proto with the kubelet's module, element by element:
//
//	go -C tests/descriptors test -count=1 .
//
// (Without -count=1 go answers from its cache, which does not know that protoc reads a file.)
package descriptors

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Differences says, one sentence each, what of `want` is missing in `got` or is there with another number, type, label
// or signature. What only `got` has is no difference. Names are compared as they are on the wire and in generated code.
func Differences(want, got protoreflect.FileDescriptor) []string {
	var d differences
	d.check(got.Package() == want.Package(), "package is %s, not %s", got.Package(), want.Package())
	d.messages(want.Messages(), got.Messages())
	d.enums(want.Enums(), got.Enums())
	for i := range want.Services().Len() {
		service := want.Services().Get(i)
		d.service(service, got.Services().ByName(service.Name()))
	}
	return d
}

type differences []string

// check notes the sentence unless ok, and returns ok.
func (d *differences) check(ok bool, format string, args ...any) bool {
	if !ok {
		*d = append(*d, fmt.Sprintf(format, args...))
	}
	return ok
}

func (d *differences) messages(want, got protoreflect.MessageDescriptors) {
	for i := range want.Len() {
		w := want.Get(i)
		g := got.ByName(w.Name())
		if !d.check(g != nil, "message %s is missing", w.FullName()) {
			continue
		}
		for j := range w.Fields().Len() {
			field := w.Fields().Get(j)
			d.field(field, g.Fields().ByName(field.Name()))
		}
		d.messages(w.Messages(), g.Messages())
		d.enums(w.Enums(), g.Enums())
	}
}

func (d *differences) field(want, got protoreflect.FieldDescriptor) {
	name := want.FullName()
	if !d.check(got != nil, "field %s is missing", name) {
		return
	}
	d.check(got.Number() == want.Number(), "field %s has number %d, not %d", name, got.Number(), want.Number())
	d.check(fieldType(got) == fieldType(want), "field %s is a %s, not a %s", name, fieldType(got), fieldType(want))
	d.check(got.Cardinality() == want.Cardinality(), "field %s is %s, not %s", name, got.Cardinality(), want.Cardinality())
	d.check(got.IsPacked() == want.IsPacked(), "field %s differs in being packed", name)
	d.check(got.HasPresence() == want.HasPresence(), "field %s differs in having presence", name)
}

func fieldType(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return fmt.Sprintf("map<%s, %s>", fieldType(field.MapKey()), fieldType(field.MapValue()))
	case field.Message() != nil:
		return string(field.Message().FullName())
	case field.Enum() != nil:
		return string(field.Enum().FullName())
	}
	return field.Kind().String()
}

func (d *differences) enums(want, got protoreflect.EnumDescriptors) {
	for i := range want.Len() {
		w := want.Get(i)
		g := got.ByName(w.Name())
		if !d.check(g != nil, "enum %s is missing", w.FullName()) {
			continue
		}
		for j := range w.Values().Len() {
			value := w.Values().Get(j)
			ours := g.Values().ByName(value.Name())
			if d.check(ours != nil, "value %s of enum %s is missing", value.Name(), w.FullName()) {
				d.check(ours.Number() == value.Number(), "value %s of enum %s is %d, not %d", value.Name(), w.FullName(),
					ours.Number(), value.Number())
			}
		}
	}
}

func (d *differences) service(want, got protoreflect.ServiceDescriptor) {
	if !d.check(got != nil, "service %s is missing", want.FullName()) {
		return
	}
	for i := range want.Methods().Len() {
		w := want.Methods().Get(i)
		g := got.Methods().ByName(w.Name())
		if d.check(g != nil, "rpc %s is missing", w.FullName()) {
			d.check(signature(g) == signature(w), "rpc %s is %s, not %s", w.FullName(), signature(g), signature(w))
		}
	}
}

func signature(rpc protoreflect.MethodDescriptor) string {
	word := map[bool]string{true: "stream "}
	return fmt.Sprintf("(%s%s) -> (%s%s)", word[rpc.IsStreamingClient()], rpc.Input().FullName(),
		word[rpc.IsStreamingServer()], rpc.Output().FullName())
}
