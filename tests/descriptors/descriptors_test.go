package descriptors

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	upstream "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const protoDir = "../../proto"

var theirs = upstream.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto

// compileOurs has protoc read proto/api.proto, the file that the C code is made from.
func compileOurs(t *testing.T) *descriptorpb.FileDescriptorSet {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.pb")
	protoc := exec.Command("protoc", "-I", protoDir, "-I", "/usr/include", "--include_imports", "--descriptor_set_out="+path,
		"api.proto")
	if output, err := protoc.CombinedOutput(); err != nil {
		t.Fatalf("protoc (package protobuf-compiler) on api.proto: %v\n%s", err, output)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(data, set); err != nil {
		t.Fatal(err)
	}
	return set
}

func link(t *testing.T, set *descriptorpb.FileDescriptorSet) protoreflect.FileDescriptor {
	t.Helper()
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	file, err := files.FindFileByPath("api.proto")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// What the kubelet's module has is in ours, with the same name, number, type, label and signature.
func TestOursHasAllThatTheKubeletsHas(t *testing.T) {
	for _, difference := range Differences(theirs, link(t, compileOurs(t))) {
		t.Error(difference)
	}
}

// A field of our own would one day collide with one of theirs.
func TestOursAddsNothing(t *testing.T) {
	for _, difference := range Differences(link(t, compileOurs(t)), theirs) {
		t.Errorf("seen from ours: in k8s.io/cri-api %s", difference)
	}
}

// The comparison is worth something: whichever field of ours gets another number, it is noticed, by its name.
func TestEachChangedFieldNumberIsNoticed(t *testing.T) {
	set := compileOurs(t)
	intact := link(t, set)
	api := set.File[len(set.File)-1]
	fields := 0
	for _, message := range api.MessageType {
		for _, field := range message.Field {
			number := field.Number
			field.Number = proto.Int32(*number + 1000)
			found := Differences(intact, link(t, set))
			if len(found) != 1 {
				t.Errorf("number of %s.%s changed: %d differences found, not 1: %v", *message.Name, *field.Name, len(found), found)
			}
			field.Number = number
			fields++
		}
	}
	if fields < 400 {
		t.Errorf("only %d fields were tried", fields)
	}
}

// The same for what else can go wrong.
func TestOtherChangesAreNoticed(t *testing.T) {
	message := func(api *descriptorpb.FileDescriptorProto, name string) *descriptorpb.DescriptorProto {
		for _, m := range api.MessageType {
			if m.GetName() == name {
				return m
			}
		}
		t.Fatalf("no message %s", name)
		return nil
	}
	changes := map[string]func(*descriptorpb.FileDescriptorProto){
		"field runtime.v1.VersionRequest.version is a bytes, not a string": func(api *descriptorpb.FileDescriptorProto) {
			message(api, "VersionRequest").Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		},
		"field runtime.v1.VersionRequest.version is repeated, not optional": func(api *descriptorpb.FileDescriptorProto) {
			message(api, "VersionRequest").Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		},
		"field runtime.v1.DNSConfig.options is missing": func(api *descriptorpb.FileDescriptorProto) {
			dns := message(api, "DNSConfig")
			dns.Field = dns.Field[:2]
		},
		"value UDP of enum runtime.v1.Protocol is missing": func(api *descriptorpb.FileDescriptorProto) {
			api.EnumType[0].Value[1].Name = proto.String("DCCP")
		},
		"rpc runtime.v1.RuntimeService.Version is (runtime.v1.VersionRequest) -> (stream runtime.v1.VersionResponse), " +
			"not (runtime.v1.VersionRequest) -> (runtime.v1.VersionResponse)": func(api *descriptorpb.FileDescriptorProto) {
			api.Service[0].Method[0].ServerStreaming = proto.Bool(true)
		},
	}
	for want, change := range changes {
		set := compileOurs(t)
		intact := link(t, set)
		change(set.File[len(set.File)-1])
		if found := Differences(intact, link(t, set)); len(found) == 0 || found[0] != want {
			t.Errorf("want %q, found %q", want, found)
		}
	}
}
