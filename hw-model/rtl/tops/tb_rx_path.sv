// rx_path with flat ports, for benches that take no structures.

`default_nettype none

module tb_rx_path
  import tandem_stream_pkg::*;
#(
  parameter int unsigned DataW       = 512,
  parameter int unsigned FrameLenMax = 9234,
  parameter int unsigned FifoBytes   = 32768,
  parameter int unsigned FramesMax   = 128,
  localparam int unsigned Bytes      = DataW / 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,

  input  wire logic             flush_i,
  input  wire logic             accept_i,
  input  wire logic [47:0]      mac_i,

  input  wire logic             mac_valid_i,
  input  wire logic [DataW-1:0] mac_data_i,
  input  wire logic [Bytes-1:0] mac_keep_i,
  input  wire logic             mac_last_i,
  input  wire logic             mac_error_i,

  output logic                  meta_valid_o,
  input  wire logic             meta_ready_i,
  output logic [31:0]           meta_number_o,
  output logic [15:0]           meta_len_o,
  output logic [7:0]            meta_verdict_o,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [DataW-1:0]      out_data_o,
  output logic [Bytes-1:0]      out_keep_o,
  output logic                  out_last_o,

  output logic                  event_valid_o,
  output logic [31:0]           event_number_o,
  output logic [15:0]           event_len_o,
  output logic                  event_accepted_o,
  output logic [7:0]            event_verdict_o,
  output logic [7:0]            event_reason_o,
  output logic                  busy_o
);

  rx_meta_t  meta;
  rx_event_t ev;
  assign meta_number_o    = meta.number;
  assign meta_len_o       = meta.len;
  assign meta_verdict_o   = meta.verdict;
  assign event_number_o   = ev.number;
  assign event_len_o      = ev.len;
  assign event_accepted_o = ev.accepted;
  assign event_verdict_o  = ev.verdict;
  assign event_reason_o   = ev.reason;

  rx_path #(
    .DataW       (DataW),
    .FrameLenMax (FrameLenMax),
    .FifoBytes   (FifoBytes),
    .FramesMax   (FramesMax)
  ) u_dut (
    .clk_i,
    .rst_ni,
    .flush_i,
    .accept_i,
    .mac_i,
    .mac_valid_i,
    .mac_data_i,
    .mac_keep_i,
    .mac_last_i,
    .mac_error_i,
    .meta_valid_o,
    .meta_ready_i,
    .meta_o        (meta),
    .out_valid_o,
    .out_ready_i,
    .out_data_o,
    .out_keep_o,
    .out_last_o,
    .event_valid_o,
    .event_o       (ev),
    .busy_o
  );

endmodule

`default_nettype wire
