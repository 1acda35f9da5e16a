"""pcap filters with libpcap's verdict, and frames to match; tests/integration/test_filters.py asks again."""

from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import ARP, CookedLinuxV2, Ether
from scapy.packet import Raw

from testbed.packet.pcap import ETHERNET, LINUX_SLL2, RAW_IP, Frame

GOOD = """
esp
stp
ip6
inbound
multicast
vlan
vlan 5
mpls
len > 5
len - 5 > 3
less 5
greater 5
5 = 5
not not esp
!esp && !(udp port 500)
icmp or arp
1 < 2 and esp
udp port isakmp
port domain
port ssh or http
port 53 or 67
port (53 or 67)
port 5 or not 6
port 0x1b2
portrange 1-5
portrange 5
(udp) and (port 53 or 67)
src or dst port 5
udp src port 434
proto 50
proto 4 or 50
protochain 5
ip proto 300
ip proto ospf
ip proto \\udp
ip proto 4 and ip[29] = 50
ip6 proto 50
ether proto 2048
ether proto \\ip
ether host 1:2:3:4:5:6
host 1.2.3
host 10
host ::1
ip6 host ::1
arp host 1.2.3.4
arp net 10.0.0.0/8
ip net 10.0.0.0/8
dst 1.2.3.4
host (1.2.3.4 or 1.2.3.5)
host 1.2.3.4 and not 1.2.3.5
host 1.2.3.4 or 1.2.3.5 and port 5
src and dst host 1.2.3.4
esp and src host 1.2.3.4
net 10
net 10.1
net 1.2.3.4
net ::/0
net 10.0.0.0 mask 255.0.0.0
src net 10.0.250.0/24
dst net 224.0.0.0/4
ip broadcast
ip multicast
ip6 multicast
ip[8 - 1] = 1
ip[0:4] = 1
icmp[icmptype]=icmp-echo
icmp[0] == 8 || icmp[0] == 0
tcp[13] & 2 != 0
tcp[tcpflags] & (tcp-syn|tcp-ack) != 0
ip and udp[0:2] & 0x1ff = 500
""".strip().splitlines()

BAD = """
ha
ESP
not
esp esp
esp and
and esp
(esp
esp)
ip[0
udp[8]
udp[8] =
ip[8-1]=1
ip[0:3]=1
esp[0:4]=1
udp portt 434
udp src portt 434
udp dst prot 434
udp 434
udp dst 434
udp port 434 udp
udp host 1.2.3.4
udp broadcast
udp proto 5
udp and 5
esp or 4
esp or 10.1.1.1
(port 53) or 67
udp port 434 or esp or 500
esp src host 1.2.3.4
src dst port 5
ip port 5
port 1.2
port 70000
port foo
proto esp
ip proto foo
ether proto ip
ip host esp
src host src
host 10.0.0.0/8
host 300.1.1.1
net 10.0.0.1/8
net 10.0.0.0/33
ether net 10.0.0.0/8
""".strip().splitlines()

HOSTS = {"mn": IPv4Address("10.0.1.100"), "ha": IPv4Address("10.0.1.2"), "fa-office": IPv4Address("10.0.2.3")}
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def ip(source: str = "mn", destination: str = "ha", **keys: Any) -> IP:
    return IP(src=str(HOSTS[source]), dst=str(HOSTS[destination]), **keys)


PACKETS = {
    "esp": ip() / ESP(spi=7, seq=1) / Raw(bytes(40)),
    "nat-t": ip() / UDP(sport=4500, dport=4500) / Raw(b"\1" + bytes(40)),
    "ike": ip() / UDP(sport=500, dport=500) / Raw(bytes(28)),
    "reply": ip("ha", "mn") / UDP(sport=434, dport=434) / Raw(b"\3" + bytes(19)),
    "inside": ip("fa-office") / ip() / ICMP(),
    "later": ip(frag=185, proto=17) / Raw(bytes(40)),
}


def frames(linktype: int = ETHERNET) -> dict[str, Frame]:
    link = {
        ETHERNET: lambda packet: Ether(**MACS) / packet,
        LINUX_SLL2: lambda packet: CookedLinuxV2(proto=0x0800) / packet,
        RAW_IP: lambda packet: packet,
    }[linktype]
    found = {name: bytes(link(packet)) for name, packet in PACKETS.items()}
    if linktype == ETHERNET:
        found["arp"] = bytes(Ether(**MACS) / ARP(psrc="10.0.1.1", pdst=str(HOSTS["ha"])))
    return {
        name: Frame(number, linktype, data, len(data)) for number, (name, data) in enumerate(found.items())
    }
