tandem_pkg.sv
tandem_nic.sv
