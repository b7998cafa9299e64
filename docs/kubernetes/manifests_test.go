// Package kubernetes_test checks the manifests: that they are what the API of Kubernetes takes, and that they
// fit one another.
package kubernetes_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// The manifests, read strictly.
type manifests struct {
	deployments map[string]*appsv1.Deployment
	sets        map[string]*appsv1.StatefulSet
	services    map[string]*corev1.Service
	configs     map[string]*corev1.ConfigMap
	secrets     map[string]*corev1.Secret
	budgets     map[string]*policyv1.PodDisruptionBudget
	policies    map[string]*networkingv1.NetworkPolicy
}

// read reads every document of every file. A field that the API does not know fails the test.
func read(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{
		make(map[string]*appsv1.Deployment), make(map[string]*appsv1.StatefulSet), make(map[string]*corev1.Service),
		make(map[string]*corev1.ConfigMap), make(map[string]*corev1.Secret),
		make(map[string]*policyv1.PodDisruptionBudget), make(map[string]*networkingv1.NetworkPolicy),
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			doc, err := docs.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			m.add(t, file, doc)
		}
	}
	return m
}

func (m *manifests) add(t *testing.T, file string, doc []byte) {
	t.Helper()
	var of metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &of); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	switch of.APIVersion + " " + of.Kind {
	case "apps/v1 Deployment":
		put(t, file, doc, m.deployments)
	case "apps/v1 StatefulSet":
		put(t, file, doc, m.sets)
	case "v1 Service":
		put(t, file, doc, m.services)
	case "v1 ConfigMap":
		put(t, file, doc, m.configs)
	case "v1 Secret":
		put(t, file, doc, m.secrets)
	case "policy/v1 PodDisruptionBudget":
		put(t, file, doc, m.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		put(t, file, doc, m.policies)
	default:
		t.Fatalf("%s: unexpected %q %q", file, of.APIVersion, of.Kind)
	}
}

func put[T any, P interface {
	*T
	GetName() string
}](t *testing.T, file string, doc []byte, in map[string]P) {
	t.Helper()
	one := P(new(T))
	if err := yaml.UnmarshalStrict(doc, one); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, doc)
	}
	if name := one.GetName(); name == "" || in[name] != nil {
		t.Fatalf("%s: the name %q is empty, or there twice", file, name)
	}
	in[one.GetName()] = one
}

// selects reports whether labels that are wanted are among some.
func selects(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return len(want) > 0
}

// A selector selects the pods of its own template, and volumes, ports and references lead somewhere.
func TestPodsFit(t *testing.T) {
	m := read(t)
	pods := make(map[string]corev1.PodTemplateSpec)
	selectors := make(map[string]*metav1.LabelSelector)
	claims := make(map[string][]corev1.PersistentVolumeClaim)
	for name, d := range m.deployments {
		pods[name], selectors[name] = d.Spec.Template, d.Spec.Selector
	}
	for name, s := range m.sets {
		pods[name], selectors[name], claims[name] = s.Spec.Template, s.Spec.Selector, s.Spec.VolumeClaimTemplates
	}
	for name, pod := range pods {
		if !selects(selectors[name].MatchLabels, pod.Labels) {
			t.Errorf("%s does not select its own pods", name)
		}
		volumes := make(map[string]bool)
		for _, c := range claims[name] {
			volumes[c.Name] = true
		}
		for _, v := range pod.Spec.Volumes {
			volumes[v.Name] = true
			if v.Secret != nil && m.secrets[v.Secret.SecretName] == nil {
				t.Errorf("%s: there is no secret %s", name, v.Secret.SecretName)
			}
			if v.ConfigMap != nil && m.configs[v.ConfigMap.Name] == nil {
				t.Errorf("%s: there is no config map %s", name, v.ConfigMap.Name)
			}
		}
		for _, c := range pod.Spec.Containers {
			for _, v := range c.VolumeMounts {
				if !volumes[v.Name] {
					t.Errorf("%s: there is no volume %s", name, v.Name)
				}
			}
			for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
				if p == nil || p.HTTPGet == nil {
					continue
				}
				if !slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool { return port.Name == p.HTTPGet.Port.StrVal }) {
					t.Errorf("%s: a probe asks the port %v, which the container does not have", name, p.HTTPGet.Port)
				}
			}
		}
	}
	for name, b := range m.budgets {
		if !slices.ContainsFunc(slices.Collect(maps.Values(pods)), func(p corev1.PodTemplateSpec) bool {
			return selects(b.Spec.Selector.MatchLabels, p.Labels)
		}) {
			t.Errorf("the budget %s selects no pods", name)
		}
	}
}

// Every URL that the processes are given is a node of its own, which no other pod can be in its place.
func TestNodesAreIndependent(t *testing.T) {
	m := read(t)
	urls := strings.Fields(m.secrets["leasehold-nodes"].StringData["nodes"])
	if len(urls) != 3 || len(m.sets) != 3 {
		t.Fatalf("%d URLs and %d servers, want 3", len(urls), len(m.sets))
	}
	seen := make(map[string]bool)
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		service := m.services[u.Hostname()]
		if service == nil || seen[u.Hostname()] {
			t.Fatalf("%s: there is no such service, or it is there twice", u.Hostname())
		}
		seen[u.Hostname()] = true
		if service.Spec.ClusterIP != corev1.ClusterIPNone || strconv.Itoa(int(service.Spec.Ports[0].Port)) != u.Port() {
			t.Errorf("%s: want a headless service with the port %s", service.Name, u.Port())
		}
		var behind []*appsv1.StatefulSet
		for _, s := range m.sets {
			if selects(service.Spec.Selector, s.Spec.Template.Labels) {
				behind = append(behind, s)
			}
		}
		if len(behind) != 1 || behind[0].Spec.ServiceName != service.Name || *behind[0].Spec.Replicas != 1 {
			t.Errorf("%s: want one server, of one pod", service.Name)
		}
	}
	budget := m.budgets["leasehold-redis"].Spec
	if budget.MinAvailable == nil || budget.MinAvailable.IntValue() != len(m.sets)/2+1 {
		t.Errorf("the budget keeps %v servers, want a quorum", budget.MinAvailable)
	}
	policy := m.policies["leasehold-redis"].Spec
	for name, s := range m.sets {
		pod := s.Spec.Template
		apart := pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		if len(apart) != 1 || apart[0].TopologyKey != corev1.LabelHostname || !selects(apart[0].LabelSelector.MatchLabels, pod.Labels) {
			t.Errorf("%s may share a machine with another", name)
		}
		for other, o := range m.sets {
			if other != name && selects(s.Spec.Selector.MatchLabels, o.Spec.Template.Labels) {
				t.Errorf("%s selects the pods of %s", name, other)
			}
		}
		if s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
			t.Errorf("a change of %s restarts it at once", name)
		}
		if len(s.Spec.VolumeClaimTemplates) != 1 {
			t.Errorf("%s keeps no data", name)
		}
		if !selects(budget.Selector.MatchLabels, pod.Labels) || !selects(policy.PodSelector.MatchLabels, pod.Labels) {
			t.Errorf("%s has no budget, or no policy", name)
		}
		if c := pod.Spec.Containers[0]; c.LivenessProbe != nil {
			t.Errorf("%s is restarted by a probe", name)
		}
	}
	client := m.deployments["scheduler"].Spec.Template.Labels
	if !selects(policy.Ingress[0].From[0].PodSelector.MatchLabels, client) {
		t.Error("the scheduler does not reach the servers")
	}
}

// The servers keep what they know, evict nothing, and let nobody in but leasehold, with the rights that
// docs/operating.md lists.
func TestServers(t *testing.T) {
	m := read(t)
	conf := make(map[string]string)
	for line := range strings.Lines(m.configs["leasehold-redis"].Data["redis.conf"]) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key != "#" {
			conf[key] = value
		}
	}
	for key, want := range map[string]string{
		"maxmemory-policy": "noeviction", "appendonly": "yes", "dir": "/data", "aclfile": "/etc/redis/secret/users.acl",
	} {
		if conf[key] != want {
			t.Errorf("%s %q, want %q", key, conf[key], want)
		}
	}
	for name, s := range m.sets {
		c := s.Spec.Template.Spec.Containers[0]
		mounts := make(map[string]string)
		for _, v := range c.VolumeMounts {
			mounts[v.Name] = v.MountPath
		}
		if mounts["data"] != conf["dir"] || mounts["secret"] != filepath.Dir(conf["aclfile"]) || c.Command[1] != mounts["config"]+"/redis.conf" {
			t.Errorf("%s does not read its settings, or keeps its data elsewhere: %v", name, mounts)
		}
		most := c.Resources.Limits.Memory().Value()
		mb, err := strconv.ParseInt(strings.TrimSuffix(conf["maxmemory"], "mb"), 10, 64)
		if err != nil || mb<<20 > most*3/4 {
			t.Errorf("%s: maxmemory %s leaves no room in %d", name, conf["maxmemory"], most)
		}
	}
	users := m.secrets["leasehold-redis"].StringData["users.acl"]
	if !strings.Contains(users, "user default off\n") {
		t.Error("anybody may do anything")
	}
	doc, err := os.ReadFile("../operating.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`resetchannels &leasehold:inbox:\* -@all .*`).FindString(string(doc))
	if rights == "" || !strings.Contains(users, rights+"\n") {
		t.Errorf("the rights are not those of docs/operating.md: %s", rights)
	}
	for _, text := range strings.Fields(m.secrets["leasehold-nodes"].StringData["nodes"]) {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		password, _ := u.User.Password()
		if !strings.Contains(users, "user "+u.User.Username()+" on >"+password+" ") {
			t.Errorf("%s is no user", u.User.Username())
		}
	}
}

// The program is asked by the probes of supervisor/status, and needs nothing of Kubernetes.
func TestScheduler(t *testing.T) {
	d := read(t).deployments["scheduler"]
	c := d.Spec.Template.Spec.Containers[0]
	if *d.Spec.Replicas != 3 {
		t.Errorf("%d replicas, want 3", *d.Spec.Replicas)
	}
	if got := c.LivenessProbe.HTTPGet.Path; got != "/livez" {
		t.Errorf("liveness by %s", got)
	}
	if got := c.ReadinessProbe.HTTPGet.Path; got != "/readyz" {
		t.Errorf("readiness by %s", got)
	}
	if mount := d.Spec.Template.Spec.AutomountServiceAccountToken; mount == nil || *mount {
		t.Error("it has a token for the API")
	}
	if !c.Resources.Limits.Cpu().IsZero() {
		t.Error("it may be throttled")
	}
}

// A Redis server takes the settings of the manifests, answers the probe's user nothing but PING, and an
// unknown client nothing at all.
func TestServerTakesItsSettings(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("REQUIRE_REAL") != "" {
			t.Fatal(err)
		}
		t.Skip("left out: there is no redis-server in the path")
	}
	m, dir := read(t), t.TempDir()
	here := strings.NewReplacer("/data", dir, "/etc/redis/secret", dir)
	for file, text := range map[string]string{
		"redis.conf": here.Replace(m.configs["leasehold-redis"].Data["redis.conf"]),
		"users.acl":  m.secrets["leasehold-redis"].StringData["users.acl"],
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "s")
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	server := exec.CommandContext(ctx, path, filepath.Join(dir, "redis.conf"), "--port", "0", "--unixsocket", socket)
	var said bytes.Buffer
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		_ = server.Wait() // it was killed
		if t.Failed() {
			t.Logf("redis-server: %s", &said)
		}
	}()
	conn, err := net.Dial("unix", socket)
	for ; err != nil && ctx.Err() == nil; conn, err = net.Dial("unix", socket) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for _, c := range []struct{ command, want string }{
		{"PING", "-NOAUTH"},
		{"AUTH probe any", "+OK"},
		{"PING", "+PONG"},
		{"GET x", "-NOPERM"},
		{"AUTH leasehold wrong", "-WRONGPASS"},
		{"AUTH leasehold CHANGE-ME", "+OK"},
		{"SET x 1 NX PX 1000", "+OK"},
		{"FLUSHALL", "-NOPERM"},
	} {
		if _, err := io.WriteString(conn, c.command+"\r\n"); err != nil {
			t.Fatal(err)
		}
		got, err := answers.ReadString('\n')
		if err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, %v, want %s", c.command, got, err, c.want)
		}
	}
}
