"""The manifests agree with themselves, with the image and with what the program promises."""
import re
import unittest

import manifests
from manifests import BASE, TOP, container, option, render, seconds, size

# What kustomize 2.0.3, the one inside kubectl 1.20, knows of; and no more than we use.
KUSTOMIZATION_FIELDS = {"apiVersion", "kind", "bases", "resources", "images", "namePrefix",
                        "namespace", "patchesStrategicMerge", "commonLabels", "commonAnnotations"}


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.objects = render(BASE)
        cls.set = cls.objects["StatefulSet", "varve"]["spec"]
        cls.pod = cls.set["template"]["spec"]
        cls.labels = cls.set["template"]["metadata"]["labels"]
        cls.container = container(cls.objects)

    def assertSelectsPod(self, selector):
        self.assertTrue(selector)
        self.assertLessEqual(selector.items(), self.labels.items())

    def test_every_object_that_is_promised_is_there(self):
        self.assertEqual(set(self.objects), {
            ("StatefulSet", "varve"), ("Service", "varve"), ("Service", "varve-headless"),
            ("PodDisruptionBudget", "varve"), ("NetworkPolicy", "varve")})

    def test_every_file_is_listed(self):
        listed = manifests.yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
        files = {f.name for f in BASE.iterdir()} - {"kustomization.yaml"}
        self.assertEqual(set(listed), files)

    def test_kustomizations_hold_nothing_that_an_old_kubectl_refuses(self):
        for file in BASE.parent.rglob("kustomization.yaml"):
            fields = manifests.yaml.safe_load(file.read_text())
            self.assertLessEqual(set(fields), KUSTOMIZATION_FIELDS, file)
            for resource in fields.get("resources", []):
                self.assertTrue((file.parent / resource).is_file(), resource)

    def test_the_grace_period_is_the_drain_and_ten_seconds(self):
        drain = seconds(option(self.objects, "drain-delay")) + \
            seconds(option(self.objects, "drain-timeout"))
        self.assertEqual(self.pod["terminationGracePeriodSeconds"], drain + 10)

    def test_readiness_is_lost_before_the_drain_delay_ends(self):
        probe = self.container["readinessProbe"]
        self.assertLessEqual(probe["periodSeconds"] * probe["failureThreshold"],
                             seconds(option(self.objects, "drain-delay")))

    def test_each_probe_asks_its_own_path_on_the_http_port(self):
        for probe, path in (("startupProbe", "/startupz"), ("livenessProbe", "/livez"),
                            ("readinessProbe", "/readyz")):
            self.assertEqual(self.container[probe]["httpGet"], {"path": path, "port": "http"})

    def test_recovery_may_take_minutes(self):
        probe = self.container["startupProbe"]
        self.assertGreaterEqual(probe["periodSeconds"] * probe["failureThreshold"], 300)

    def test_ports_are_the_one_that_is_listened_on(self):
        port = int(option(self.objects, "listen").rsplit(":", 1)[1])
        self.assertEqual(self.container["ports"], [{"name": "http", "containerPort": port}])
        for name in ("varve", "varve-headless"):
            ports = self.objects["Service", name]["spec"]["ports"]
            self.assertEqual(ports, [{"name": "http", "port": port, "targetPort": "http"}])
        ingress = self.objects["NetworkPolicy", "varve"]["spec"]["ingress"]
        self.assertEqual([p["port"] for rule in ingress for p in rule["ports"]], [port])

    def test_every_selector_finds_the_pod(self):
        self.assertSelectsPod(self.set["selector"]["matchLabels"])
        for name in ("varve", "varve-headless"):
            self.assertSelectsPod(self.objects["Service", name]["spec"]["selector"])
        budget = self.objects["PodDisruptionBudget", "varve"]["spec"]
        self.assertSelectsPod(budget["selector"]["matchLabels"])
        policy = self.objects["NetworkPolicy", "varve"]["spec"]
        self.assertSelectsPod(policy["podSelector"]["matchLabels"])

    def test_the_headless_service_is_the_one_of_the_set(self):
        self.assertEqual(self.set["serviceName"], "varve-headless")
        self.assertEqual(self.objects["Service", "varve-headless"]["spec"]["clusterIP"], "None")

    def test_the_network_policy_lets_in_clients_only_and_nothing_out(self):
        spec = self.objects["NetworkPolicy", "varve"]["spec"]
        self.assertEqual(set(spec["policyTypes"]), {"Ingress", "Egress"})
        self.assertFalse(spec.get("egress"))
        for rule in spec["ingress"]:
            self.assertTrue(rule["from"])

    def test_the_pod_has_no_privileges(self):
        user = self.pod["securityContext"]
        self.assertTrue(user["runAsNonRoot"])
        self.assertEqual(user["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertEqual(self.container["securityContext"], {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]}})
        self.assertFalse(self.pod["automountServiceAccountToken"])
        self.assertFalse(self.pod["enableServiceLinks"])
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(key, self.pod)

    def test_the_server_drains_by_itself(self):
        self.assertNotIn("lifecycle", self.container)

    def test_a_failed_log_ends_the_pod(self):
        self.assertEqual(option(self.objects, "on-log-failure"), "exit")

    def test_the_data_is_on_the_claim(self):
        claims = self.set["volumeClaimTemplates"]
        self.assertEqual([c["metadata"]["name"] for c in claims], ["data"])
        self.assertEqual(claims[0]["spec"]["accessModes"], ["ReadWriteOnce"])
        self.assertEqual(self.container["volumeMounts"],
                         [{"name": "data", "mountPath": option(self.objects, "data-dir")}])
        self.assertNotIn("volumes", self.pod)

    def test_the_image_is_the_version_of_the_project_and_its_user_that_of_the_pod(self):
        project = re.search(r"project\(varve VERSION ([0-9.]+)",
                            (TOP / "CMakeLists.txt").read_text()).group(1)
        self.assertEqual(self.container["image"], "varve:" + project)
        recipe = (TOP / "deploy" / "Containerfile").read_text()
        user, group = re.search(r"^USER (\d+):(\d+)$", recipe, re.M).groups()
        self.assertEqual(self.pod["securityContext"]["runAsUser"], int(user))
        self.assertEqual(self.pod["securityContext"]["runAsGroup"], int(group))
        self.assertEqual(self.pod["securityContext"]["fsGroup"], int(group))
        self.assertIn('version="%s"' % project, recipe)
        self.assertIn("VARVE_DATA_DIR=" + option(self.objects, "data-dir"), recipe)

    def test_memory_suffices_for_the_defaults(self):
        """The sum of deploy/README.md: memtables (active and two sealed), writes in flight,
        connections, and the rest."""
        config = (TOP / "service" / "config.c").read_text()

        def default(name):
            return re.search(r'\.name = "%s".*?\.fallback = "([^"]+)"' % name, config,
                             re.S).group(1)
        bound = 3 * size(default("memtable-bytes")) + size(default("max-inflight-bytes")) + \
            int(default("connections")) * size("16KiB") + size("64MiB")
        self.assertLessEqual(bound, size(self.container["resources"]["requests"]["memory"]))
        self.assertLess(bound, size(self.container["resources"]["limits"]["memory"]))


if __name__ == "__main__":
    unittest.main()
