//! Sans-I/O TCP/IP: shards, namespaces, interfaces, neighbours, routes, IP, ICMP, UDP, TCP, sockets.
